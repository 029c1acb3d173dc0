"""The checks of `onsembl supabase check`: each has a result, and a fix when it fails."""

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
from onsembl.sql.published_tables import PUBLISHED
from realtime import RealtimePostgresChangesListenEvent

MAX_SKEW_SECONDS = 5.0
OLDEST_POSTGRES = 150000


class CheckFailed(Exception):
    """A check failed; `fix` says what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of one project and its database."""

    project: HostedProject
    database_url: str
    wait: float
    """Seconds to wait for Realtime to deliver a change."""

    def all(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        """The checks with their names. A later check may need an earlier one."""
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
            raise CheckFailed(f"Postgres {version // 10000} is too old", "Upgrade the project to Postgres 15 or newer.")
        return f"Postgres {version // 10000}.{version % 10000}"

    async def migrations(self) -> str:
        missing = await missing_migrations(self.database_url)
        if missing:
            raise CheckFailed(f"not applied: {', '.join(missing)}", "Run `onsembl supabase setup`.")
        return "all applied"

    async def listen(self) -> str:
        async with await connect(self.database_url, autocommit=True) as conn:
            channel = f"onsembl_check_{secrets.token_hex(4)}"
            await conn.execute(f"listen {channel}".encode())
            await conn.execute(f"notify {channel}".encode())
            async for _ in conn.notifies(timeout=5.0, stop_after=1):
                return "notification received"
        raise CheckFailed(
            "a notification did not arrive",
            "Use the direct connection or the session pooler (port 5432), not the transaction pooler.",
        )

    async def publication(self) -> str:
        async with await connect(self.database_url) as conn:
            missing = set(PUBLISHED) - await setup.published(conn)
        if missing:
            raise CheckFailed(f"supabase_realtime lacks {', '.join(sorted(missing))}", "Run `onsembl supabase setup`.")
        return "supabase_realtime publishes all tables"

    async def policies(self) -> str:
        async with await connect(self.database_url) as conn:
            bare, unseen = await setup.unprotected(conn), await setup.without_read_policy(conn)
            joinable = await setup.has_channel_policy(conn)
        if bare:
            raise CheckFailed(
                f"no row-level security on {', '.join(sorted(bare))}",
                "Enable it: alter table … enable row level security.",
            )
        if unseen:
            raise CheckFailed(
                f"no policy lets operators read {', '.join(sorted(unseen))}", "Restore the policy `operators_read`."
            )
        if not joinable:
            raise CheckFailed(
                "no policy on realtime.messages lets operators join the page's private channels",
                "Open Realtime in the project's dashboard once, then run `onsembl supabase setup`.",
            )
        return "row-level security on every table"

    async def grants(self) -> str:
        async with await connect(self.database_url) as conn:
            missing, excess = await setup.missing_grants(conn), await setup.excess_grants(conn)
            open_tables = await setup.writable(conn)
        if missing:
            raise CheckFailed(f"operators cannot read {', '.join(sorted(missing))}", "Run `onsembl supabase setup`.")
        if excess:
            raise CheckFailed(
                f"browsers can read {', '.join(sorted(excess))}",
                "Revoke the right to read them of the role authenticated.",
            )
        if open_tables:
            raise CheckFailed(
                f"browsers can write {', '.join(sorted(open_tables))}",
                "Revoke the grants: revoke insert, update, delete, truncate on … from anon, authenticated.",
            )
        return "operators can read, browsers cannot write"

    async def jwks(self) -> str:
        keys = (await _get(f"{self.project.issuer}/.well-known/jwks.json")).json().get("keys", [])
        usable = [key for key in keys if key.get("alg") in ("ES256", "RS256")]
        if usable:
            return f"{len(usable)} of {', '.join(sorted({key['alg'] for key in usable}))}"
        return "none published: the project verifies each token (slower; rotate to asymmetric keys to fix)"

    async def clock(self) -> str:
        before = time.time()
        async with await connect(self.database_url) as conn:
            theirs = (await setup.server_facts(conn))["now"]
        skew = theirs - (before + time.time()) / 2
        if abs(skew) > MAX_SKEW_SECONDS:
            raise CheckFailed(
                f"the database is {skew:+.1f} s off", "Set this machine's clock, or tokens expire too early."
            )
        return f"{skew * 1000:+.0f} ms"

    async def round_trip(self) -> str:
        """Change a row and wait until a signed-in subscriber receives the change."""
        async with httpx.AsyncClient(
            timeout=30.0
        ) as http:  # our own client, because the Supabase clients do not close theirs
            return await self._change_and_receive(http)

    async def _change_and_receive(self, http: httpx.AsyncClient) -> str:
        async with await connect(self.database_url) as conn:
            await setup.remove_probe(conn, "")  # fails at once when the table is missing
        email, password = f"check-{secrets.token_hex(4)}@onsembl.invalid", secrets.token_urlsafe(18)
        options = AsyncClientOptions(persist_session=False, auto_refresh_token=False, httpx_client=http)
        admin = AsyncClient(self.project.url, self.project.secret_key, options)
        created = await admin.auth.admin.create_user(
            {"email": email, "password": password, "email_confirm": True, "app_metadata": {"role": Role.VIEWER.value}}
        )
        try:
            return await self._receive_change(email, password, http)
        finally:
            await admin.auth.admin.delete_user(created.user.id)

    async def _receive_change(self, email: str, password: str, http: httpx.AsyncClient) -> str:
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
            raise CheckFailed(
                f"a change did not arrive within {self.wait:.0f} s",
                "Enable Realtime for the project, and do not exclude the schema `onsembl`.",
            ) from error
        finally:
            async with await connect(self.database_url, autocommit=True) as conn:
                await setup.remove_probe(conn, name)
            await client.realtime.close()


async def run(name: str, check: Callable[[], Awaitable[str]]) -> Finding:
    """Run one check. An exception becomes a finding, too."""
    try:
        return Finding(name, True, await check())
    except CheckFailed as failure:
        return Finding(name, False, str(failure), failure.fix)
    except TransactionPooler as error:
        return Finding(name, False, "DATABASE_URL is a transaction pooler", str(error))
    except MigrationError as error:
        return Finding(name, False, str(error), "Use the Onsembl version that migrated the database, or a newer one.")
    except psycopg.Error as error:
        return Finding(name, False, str(error).strip(), "Check DATABASE_URL and the privileges of its user.")
    except httpx.HTTPError as error:
        return Finding(name, False, str(error), "Check SUPABASE_URL and the keys.")


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10.0) as client:
        response = await client.get(url)
        return response.raise_for_status()
