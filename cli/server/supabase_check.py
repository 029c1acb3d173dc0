"""What must hold for a Supabase project to serve, checked one thing at a time, each with its mend."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
import psycopg
from supabase import AsyncClient, AsyncClientOptions

from onsembl.protocol.states import Role
from onsembl.realtime.hosted import HostedProject, TransactionPooler, reject_transaction_pooler
from onsembl.sql import supabase_setup as setup
from onsembl.sql.database import connect
from onsembl.sql.migrate import MigrationError, missing_migrations
from realtime import RealtimePostgresChangesListenEvent

MAX_SKEW_SECONDS = 5.0
OLDEST_POSTGRES = 150000


class Failed(Exception):
    """Something does not hold; `mend` is what to do about it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    ok: bool
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Checks:
    """All checks of one project and its database."""

    project: HostedProject
    database_url: str
    wait: float
    """Seconds that a change may take to arrive."""

    def all(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        """Each with its name, in the order in which one needs the other."""
        return [
            ("database", self.database),
            ("migrations", self.migrations),
            ("LISTEN", self.listen),
            ("publication", self.publication),
            ("policies", self.policies),
            ("grants", self.grants),
            ("signing keys", self.jwks),
            ("clock", self.clock),
            ("round trip", self.round_trip),
        ]

    async def database(self) -> str:
        reject_transaction_pooler(self.database_url)
        async with await connect(self.database_url) as conn:
            version = (await setup.server_facts(conn))["version"]
        if version < OLDEST_POSTGRES:
            raise Failed(f"it is Postgres {version // 10000}", "Upgrade the project: 15 is the oldest that serves.")
        return f"Postgres {version // 10000}.{version % 10000}"

    async def migrations(self) -> str:
        missing = await missing_migrations(self.database_url)
        if missing:
            raise Failed(f"not applied: {', '.join(missing)}", "Run `onsembl supabase setup`.")
        return "all applied"

    async def listen(self) -> str:
        async with await connect(self.database_url, autocommit=True) as conn:
            channel = f"onsembl_check_{secrets.token_hex(4)}"
            await conn.execute(f"listen {channel}".encode())
            await conn.execute(f"notify {channel}".encode())
            async for _ in conn.notifies(timeout=5.0, stop_after=1):
                return "heard"
        raise Failed(
            "a notification did not arrive",
            "Use the direct connection or the session pooler (port 5432), not the transaction pooler.",
        )

    async def publication(self) -> str:
        async with await connect(self.database_url) as conn:
            missing = set(setup.PUBLISHED) - await setup.published(conn)
        if missing:
            raise Failed(f"supabase_realtime lacks {', '.join(sorted(missing))}", "Run `onsembl supabase setup`.")
        return "supabase_realtime follows our tables"

    async def policies(self) -> str:
        async with await connect(self.database_url) as conn:
            bare, unseen = await setup.unprotected(conn), await setup.without_read_policy(conn)
        if bare:
            raise Failed(
                f"no row-level security on {', '.join(sorted(bare))}",
                "Turn it on: alter table … enable row level security.",
            )
        if unseen:
            raise Failed(f"no policy shows operators {', '.join(sorted(unseen))}", "Restore `operators_read` on it.")
        return "row-level security on every table"

    async def grants(self) -> str:
        async with await connect(self.database_url) as conn:
            missing = set(setup.READABLE) - await setup.readable(conn)
            open_tables = await setup.writable(conn)
        if missing:
            raise Failed(f"operators cannot read {', '.join(sorted(missing))}", "Run `onsembl supabase setup`.")
        if open_tables:
            raise Failed(
                f"browsers may write {', '.join(sorted(open_tables))}",
                "Revoke it: revoke insert, update, delete, truncate on … from anon, authenticated.",
            )
        return "operators read, and write nothing"

    async def jwks(self) -> str:
        keys = (await _get(f"{self.project.issuer}/.well-known/jwks.json")).json().get("keys", [])
        usable = [key for key in keys if key.get("alg") in ("ES256", "RS256")]
        if usable:
            return f"{len(usable)} of {', '.join(sorted({key['alg'] for key in usable}))}"
        return "none published: tokens are checked by asking the project (slower; rotate to asymmetric keys to mend)"

    async def clock(self) -> str:
        before = time.time()
        async with await connect(self.database_url) as conn:
            theirs = (await setup.server_facts(conn))["now"]
        skew = theirs - (before + time.time()) / 2
        if abs(skew) > MAX_SKEW_SECONDS:
            raise Failed(f"the database is {skew:+.1f} s off", "Set this machine's clock: tokens would end too early.")
        return f"{skew * 1000:+.0f} ms"

    async def round_trip(self) -> str:
        """A row changes and a subscriber who signed in hears of it."""
        async with httpx.AsyncClient(timeout=30.0) as http:  # of ours, for the clients close none of their own
            return await self._hear_of_a_row(http)

    async def _hear_of_a_row(self, http: httpx.AsyncClient) -> str:
        async with await connect(self.database_url) as conn:
            await setup.remove_probe(conn, "")  # a table that is missing is found before anything waits for it
        email, password = f"check-{secrets.token_hex(4)}@onsembl.invalid", secrets.token_urlsafe(18)
        options = AsyncClientOptions(persist_session=False, auto_refresh_token=False, httpx_client=http)
        admin = AsyncClient(self.project.url, self.project.secret_key, options)
        made = await admin.auth.admin.create_user(
            {"email": email, "password": password, "email_confirm": True, "app_metadata": {"role": Role.VIEWER.value}}
        )
        try:
            return await self._see_a_change(email, password, http)
        finally:
            await admin.auth.admin.delete_user(made.user.id)

    async def _see_a_change(self, email: str, password: str, http: httpx.AsyncClient) -> str:
        options = AsyncClientOptions(persist_session=False, auto_refresh_token=False, httpx_client=http)
        client = AsyncClient(self.project.url, self.project.publishable_key, options)
        session = (await client.auth.sign_in_with_password({"email": email, "password": password})).session
        assert session is not None
        await client.realtime.set_auth(session.access_token)
        name = f"check-{secrets.token_hex(4)}"
        seen, ready = asyncio.Event(), asyncio.Event()
        channel = client.channel(name)
        channel.on_postgres_changes(
            RealtimePostgresChangesListenEvent.Insert,
            schema="onsembl",
            table="agents",
            callback=lambda change: seen.set() if name in str(change) else None,
        )
        channel.on_system(lambda _message: ready.set())
        try:
            async with asyncio.timeout(self.wait):
                await channel.subscribe()
                await ready.wait()
                async with await connect(self.database_url, autocommit=True) as conn:
                    began = time.monotonic()
                    await setup.touch_probe(conn, name)
                    await seen.wait()
            return f"{(time.monotonic() - began) * 1000:.0f} ms"
        except TimeoutError as error:
            raise Failed(
                f"a change did not arrive within {self.wait:.0f} s",
                "See that Realtime is enabled for the project, and the schema `onsembl` not excluded from it.",
            ) from error
        finally:
            async with await connect(self.database_url, autocommit=True) as conn:
                await setup.remove_probe(conn, name)
            await client.realtime.close()


async def run(name: str, check: Callable[[], Awaitable[str]]) -> Finding:
    """One check's finding; an error is one too."""
    try:
        return Finding(name, True, await check())
    except Failed as failure:
        return Finding(name, False, str(failure), failure.mend)
    except TransactionPooler as error:
        return Finding(name, False, "a transaction pooler", str(error))
    except MigrationError as error:
        return Finding(name, False, str(error), "Use the version of Onsembl that the database was migrated by.")
    except psycopg.Error as error:
        return Finding(name, False, str(error).strip(), "See DATABASE_URL, and that its user may do this.")
    except httpx.HTTPError as error:
        return Finding(name, False, str(error), "See SUPABASE_URL and the keys.")


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10.0) as client:
        response = await client.get(url)
        return response.raise_for_status()
