"""The checks of `onsembl supabase check`: each has a result, and a fix when it fails."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import httpx

from onsembl.cli.server.check_findings import (
    CHECK_KEYS,
    FREE_CONNECTIONS,
    WRITABLE_AGAIN,
    CheckFailed,
    Finding,
    find,
)
from onsembl.cli.server.supabase_round_trip import round_trip
from onsembl.realtime.hosted import HostedProject, reject_transaction_pooler, unprotected_address
from onsembl.sql import supabase_setup as setup
from onsembl.sql.database import connect
from onsembl.sql.migrate import missing_migrations
from onsembl.sql.published_tables import EVERY_PUBLISHED

MAX_SKEW_SECONDS = 5.0
OLDEST_POSTGRES = 150000
RUN_SETUP = "Run `onsembl supabase setup`."
SPARE_CONNECTIONS = 2
"""The connections that `onsembl supabase check`, and other commands of an operator, use beside the processes."""

Check = tuple[str, Callable[[], Awaitable[str]]]


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of one project and its database. They write nothing that operators see."""

    project: HostedProject
    database_url: str
    connections: int
    """The connections of one `onsembl up`."""
    wait: float
    """Seconds to wait for Realtime to deliver a change."""

    async def run(self) -> AsyncGenerator[Finding]:
        """The findings, in the order of the checks. Without the database, the checks that need it are not run."""
        first = await find("database", self.database)
        yield first
        for name, check in self._of_the_database() if first.ok else []:
            yield await find(name, check)
        for name, check in self._of_the_api():
            yield await find(name, check)
        if first.ok:
            yield await find("round trip", lambda: round_trip(self.project, self.database_url, self.wait))
        else:
            for name in (*(name for name, _ in self._of_the_database()), "round trip"):
                yield Finding(name, False, "not checked, because the database did not answer", "See `database`.")

    def _of_the_database(self) -> list[Check]:
        return [
            ("encryption", self.encryption),
            ("connections", self.enough_connections),
            ("writable", self.writable),
            ("migrations", self.migrations),
            ("LISTEN", self.listen),
            ("publication", self.publication),
            ("policies", self.policies),
            ("grants", self.grants),
            ("clock", self.clock),
        ]

    def _of_the_api(self) -> list[Check]:
        return [
            ("publishable key", self.publishable_key),
            ("secret key", self.secret_key),
            ("signing keys", self.signing_keys),
        ]

    async def database(self) -> str:
        reject_transaction_pooler(self.database_url)
        version = (await self._facts()).version
        if version < OLDEST_POSTGRES:
            raise CheckFailed(f"Postgres {version // 10000} is too old", "Upgrade the project to Postgres 15 or newer.")
        return f"Postgres {version // 10000}.{version % 10000}"

    async def encryption(self) -> str:
        if (problem := unprotected_address(self.database_url)) is not None:
            raise CheckFailed(problem, "Add ?sslmode=require to DATABASE_URL.")
        return "required, or not needed on this machine"

    async def enough_connections(self) -> str:
        allowed, needed = (await self._facts()).connections, self.connections + SPARE_CONNECTIONS
        if allowed < needed:
            raise CheckFailed(
                f"this login may open {allowed} connections, and {needed} are needed: "
                f"{self.connections} for `onsembl up` and {SPARE_CONNECTIONS} for commands",
                FREE_CONNECTIONS,
            )
        return f"{allowed} allowed, {self.connections} used by `onsembl up`"

    async def writable(self) -> str:
        facts = await self._facts()
        if facts.read_only:
            raise CheckFailed("the database is read-only", WRITABLE_AGAIN)
        return f"{facts.bytes / 1e6:.0f} MB stored"

    async def migrations(self) -> str:
        missing = await missing_migrations(self.database_url)
        if missing:
            raise CheckFailed(f"not applied: {', '.join(missing)}", RUN_SETUP)
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
            found = await setup.publication(conn)
            missing = set(EVERY_PUBLISHED) - await setup.published(conn)
        if found is None:
            raise CheckFailed("there is no publication supabase_realtime", RUN_SETUP)
        if lacking := [action for action in setup.ACTIONS if action not in found.actions]:
            raise CheckFailed(f"supabase_realtime publishes no {' and no '.join(lacking)}", RUN_SETUP)
        if missing:
            raise CheckFailed(f"supabase_realtime lacks {', '.join(sorted(missing))}", RUN_SETUP)
        return "supabase_realtime publishes all tables"

    async def policies(self) -> str:
        async with await connect(self.database_url) as conn:
            bare, unseen = await setup.unprotected(conn), await setup.without_read_policy(conn)
            joinable = await setup.has_channel_policy(conn)
            assured = await setup.reads_second_factors(conn)
        if bare:
            raise CheckFailed(
                f"no row-level security on {', '.join(sorted(bare))}",
                "Enable it: alter table … enable row level security.",
            )
        if unseen:
            raise CheckFailed(f"no policy lets operators read {', '.join(sorted(unseen))}", RUN_SETUP)
        if not joinable:
            raise CheckFailed(
                "no policy on realtime.messages lets operators join the page's private channels",
                "Open Realtime in the project's dashboard once, then run `onsembl supabase setup`.",
            )
        if not assured:
            raise CheckFailed(
                "this login cannot read auth.mfa_factors, so no policy knows who has a second factor",
                "As the owner of the table: grant select on auth.mfa_factors to the login of DATABASE_URL. The login "
                "needs BYPASSRLS, too.",
            )
        return "row-level security on every table"

    async def grants(self) -> str:
        async with await connect(self.database_url) as conn:
            missing, excess = await setup.missing_grants(conn), await setup.excess_grants(conn)
            open_tables = await setup.writable(conn)
        if missing:
            raise CheckFailed(f"operators cannot read {', '.join(sorted(missing))}", RUN_SETUP)
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

    async def clock(self) -> str:
        before = time.time()
        skew = (await self._facts()).now - (before + time.time()) / 2
        if abs(skew) > MAX_SKEW_SECONDS:
            raise CheckFailed(
                f"the database is {skew:+.1f} s off", "Set this machine's clock, or tokens expire too early."
            )
        return f"{skew * 1000:+.0f} ms"

    async def publishable_key(self) -> str:
        await self._get(
            f"{self.project.url}/auth/v1/settings", self.project.publishable_key, "SUPABASE_PUBLISHABLE_KEY"
        )
        return "accepted"

    async def secret_key(self) -> str:
        url = f"{self.project.url}/auth/v1/admin/users?per_page=1"
        await self._get(url, self.project.secret_key, "SUPABASE_SECRET_KEY")
        return "accepted"

    async def signing_keys(self) -> str:
        url = f"{self.project.issuer}/.well-known/jwks.json"
        keys = (await self._get(url, self.project.publishable_key, "SUPABASE_PUBLISHABLE_KEY")).json().get("keys", [])
        usable = [key for key in keys if key.get("alg") in ("ES256", "RS256")]
        if usable:
            return f"{len(usable)} of {', '.join(sorted({key['alg'] for key in usable}))}"
        return "none published: the project verifies each token (slower; rotate to asymmetric keys to fix)"

    async def _facts(self) -> setup.ServerFacts:
        async with await connect(self.database_url) as conn:
            return await setup.server_facts(conn)

    async def _get(self, url: str, key: str, name: str) -> httpx.Response:
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(timeout=10.0) as client:
            response = await client.get(url, headers=headers)
        if response.status_code in (401, 403):
            raise CheckFailed(f"the project rejects {name} ({response.status_code})", CHECK_KEYS)
        return response.raise_for_status()
