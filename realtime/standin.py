"""What stands in for a Supabase project when there is none: its Auth and its Realtime, over our own Postgres."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg.rows import DictRow
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from onsembl.protocol.states import Role
from onsembl.realtime.auth.accounts import Accounts
from onsembl.realtime.auth.directory import StandinOperators
from onsembl.realtime.auth.events import OnAuthEvent, OnRefused, ignore_refusals
from onsembl.realtime.auth.gateway import Gateway
from onsembl.realtime.auth.passwords import Passwords
from onsembl.realtime.auth.rotation import Rotation
from onsembl.realtime.auth.routes import AuthRoutes
from onsembl.realtime.auth.sessions import Sessions
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.channels.app import ChannelsApp
from onsembl.realtime.channels.center import Center
from onsembl.realtime.channels.limits import Limits
from onsembl.realtime.keys import PUBLISHABLE, SECRET, ProjectKeys, new_key
from onsembl.realtime.tokens import AccessTokens
from onsembl.sql import auth_project, auth_users
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import Connection, create_pool

AUTH_ROLE = "onsembl_auth"
PATIENCE_SECONDS = 5.0
"""How long a sign-in waits for a database that does not answer, before the client is told to try again."""
START_SECONDS = 30.0
"""How long the start waits for the first connection, as it does for those of Realtime: a busy machine takes seconds."""


@dataclass(frozen=True, slots=True)
class _Started:
    keys: ProjectKeys
    auth: ASGIApp


class Standin:
    """Serves `/auth/v1` and `/realtime/v1`; `issuer` is what its access tokens name, `…/auth/v1`.

    `on_event` is told of sign-ins and of changes to users, for the audit log; a request waits for it, and fails with
    it. `on_refused` is told of whoever else is turned away.
    """

    def __init__(
        self,
        *,
        database_url: str,
        issuer: str,
        on_event: OnAuthEvent,
        on_refused: OnRefused = ignore_refusals,
        settings: AuthSettings | None = None,
        passwords: Passwords | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._settings = settings or AuthSettings()
        self._on_event = on_event
        self._on_refused = on_refused
        self._pool = create_pool(
            database_url, role=AUTH_ROLE, min_size=1, max_size=4, patience=PATIENCE_SECONDS, check=True
        )
        self._tokens = AccessTokens(issuer, self._settings.access_token)
        self._passwords = passwords or Passwords(self._settings.hasher)
        self._channels = ChannelsApp(database_url, limits, on_refused)
        self._rotation = Rotation(self._pool, self._tokens, self._settings, self._channels.center.send_users_away)
        self._started: _Started | None = None
        self._stack = AsyncExitStack()
        self.routes: list[BaseRoute] = [
            Mount("/auth/v1", self._serve_auth),
            Mount("/realtime/v1", self._channels.app),
        ]

    async def start(self) -> None:
        """Read the keys, or make them the first time; then serve. Raises psycopg.OperationalError."""
        async with AsyncExitStack() as stack:
            stack.callback(self._passwords.close)
            await stack.enter_async_context(self._pool)
            async with self._pool.connection(timeout=START_SECONDS) as conn:
                project = await _project(conn)
            await self._rotation.load()
            following = asyncio.create_task(self._rotation.follow(), name="signing keys")
            stack.push_async_callback(cancel_until_done, [following])
            keys = ProjectKeys(project["publishable_key"], project["secret_key"])
            await self._channels.start(keys.role_of, self._tokens.verify)
            stack.push_async_callback(self._channels.stop)
            self._started = _Started(keys, self._auth(keys, bytes(project["refresh_secret"])))
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Close the sockets and the connections."""
        await self._stack.aclose()

    @property
    def publishable_key(self) -> str:
        return self._running.keys.publishable

    @property
    def secret_key(self) -> str:
        return self._running.keys.secret

    @property
    def realtime(self) -> Center:
        """The sockets of Realtime, their topics and counters."""
        return self._channels.center

    @property
    def operators(self) -> StandinOperators:
        """The users, while this runs; see `standin_operators` for a process that serves nothing."""
        return StandinOperators(self._pool)

    async def jwks(self) -> Mapping[str, Any]:
        """The public keys, as `/auth/v1/.well-known/jwks.json` gives them."""
        return self._tokens.jwks()

    async def rotate_signing_key(self, *, revoke: bool = False) -> str:
        """A new signing key beside the present one, or in its place with `revoke`; its id. Raises RotationTooSoon."""
        return await self._rotation.rotate(revoke=revoke)

    async def reload_signing_keys(self) -> None:
        """Read the keys now, rather than within seconds. Raises psycopg.OperationalError."""
        await self._rotation.load()

    def _auth(self, keys: ProjectKeys, refresh_secret: bytes) -> ASGIApp:
        sessions = Sessions(self._pool, self._tokens, refresh_secret, self._passwords, self._settings, self._on_event)
        accounts = Accounts(self._pool, self._passwords, self._on_event)
        return AuthRoutes(sessions, accounts, Gateway(keys, self._tokens), self._on_refused).app()

    async def _serve_auth(self, scope: Scope, receive: Receive, send: Send) -> None:
        auth = self._started.auth if self._started is not None else Response(status_code=503)
        await auth(scope, receive, send)

    @property
    def _running(self) -> _Started:
        assert self._started is not None, "start() comes first"
        return self._started


@asynccontextmanager
async def standin_operators(database_url: str) -> AsyncGenerator[StandinOperators]:
    """The stand-in's users, for a process that serves nothing. The database is migrated."""
    pool = create_pool(database_url, role=AUTH_ROLE, min_size=1, max_size=1)
    async with pool:
        yield StandinOperators(pool)


@asynccontextmanager
async def standin_rotation(database_url: str, settings: AuthSettings | None = None) -> AsyncGenerator[Rotation]:
    """The stand-in's signing keys, for a process that serves nothing: the servers read them anew by themselves."""
    settings = settings or AuthSettings()
    pool = create_pool(database_url, role=AUTH_ROLE, min_size=1, max_size=1)
    async with pool:
        yield Rotation(pool, AccessTokens("", settings.access_token), settings)


async def add_operator(conn: Connection, email: str, password_hash: str, role: Role) -> bool:
    """Make an operator who can sign in; False when the address is taken. The connection acts as `AUTH_ROLE`."""
    return await auth_users.create(conn, email, password_hash, {"role": role}, {}) is not None


async def _project(conn: Connection) -> DictRow:
    return await auth_project.ensure(conn, new_key(PUBLISHABLE), new_key(SECRET), secrets.token_bytes(32))
