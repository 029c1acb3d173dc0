"""The built-in Supabase: Supabase Auth and Supabase Realtime over our own Postgres, where no Supabase project is set.

The unmodified Supabase clients work against it as they do against a hosted project.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from onsembl.protocol.rates import LeakyBuckets
from onsembl.realtime.auth.accounts import Accounts
from onsembl.realtime.auth.events import OnAuthEvent, OnRejected, ignore_rejections
from onsembl.realtime.auth.gateway import Gateway
from onsembl.realtime.auth.links import Links
from onsembl.realtime.auth.mailer import Mailer
from onsembl.realtime.auth.passwords import Passwords
from onsembl.realtime.auth.routes import AuthRoutes
from onsembl.realtime.auth.sessions import Sessions
from onsembl.realtime.auth.settings import AUTH_ROLE, AuthSettings
from onsembl.realtime.auth.signing_keys import SigningKeys
from onsembl.realtime.builtin_operators import BuiltinOperators
from onsembl.realtime.channels.app import RealtimeApp
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.proxy import RealtimeProxy
from onsembl.realtime.channels.server import RealtimeServer
from onsembl.realtime.keys import PUBLISHABLE, SECRET, ProjectKeys, new_key
from onsembl.realtime.tokens import AccessTokens
from onsembl.sql import auth_project, auth_sessions
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import create_pool
from onsembl.sql.supervision import start_supervised

PATIENCE_SECONDS = 5.0
"""How long a sign-in waits for a connection to the database before the client is asked to retry."""
START_SECONDS = 30.0
"""How long the start waits for the first connection to the database. A busy machine takes seconds to open one."""


@dataclass(frozen=True, slots=True)
class _Started:
    keys: ProjectKeys
    auth: ASGIApp
    sign_in_failures: LeakyBuckets


class BuiltinSupabase:
    """Serves `/auth/v1` and `/realtime/v1`. `issuer` is the `iss` claim of its access tokens and ends in `/auth/v1`.

    `on_event` gets each sign-in and each change to a user, for the audit log. A request waits for it and fails when it
    fails. `on_rejected` gets every other rejected request, and `on_failure` the error of a background task that fails
    after each restart. With `realtime_proxy`, another process serves Realtime, and this one passes its clients on.
    """

    def __init__(
        self,
        *,
        database_url: str,
        issuer: str,
        on_event: OnAuthEvent,
        on_rejected: OnRejected = ignore_rejections,
        on_failure: Callable[[Exception], None] = lambda _error: None,
        settings: AuthSettings | None = None,
        passwords: Passwords | None = None,
        limits: RealtimeLimits | None = None,
        realtime_proxy: RealtimeProxy | None = None,
    ) -> None:
        self._settings = settings or AuthSettings()
        self._on_event = on_event
        self._on_rejected = on_rejected
        self._on_failure = on_failure
        self._pool = create_pool(
            database_url, role=AUTH_ROLE, min_size=1, max_size=4, patience=PATIENCE_SECONDS, check=True
        )
        self._tokens = AccessTokens(issuer, self._settings.access_token_lifetime)
        self._passwords = passwords or Passwords(self._settings.hasher)
        self._realtime = (
            RealtimeApp(database_url, limits, on_rejected, on_failure) if realtime_proxy is None else realtime_proxy
        )
        self._signing_keys = SigningKeys(self._pool, self._tokens, self._settings, self._disconnect_users)
        self._started: _Started | None = None
        self._stack = AsyncExitStack()
        self.realtime_routes: list[BaseRoute] = [Mount("/realtime/v1", self._realtime.app)]
        self.routes: list[BaseRoute] = [Mount("/auth/v1", self._serve_auth), *self.realtime_routes]

    async def start(self) -> None:
        """Read the project's keys, or make them on the first start; then serve. Raises psycopg.OperationalError."""
        async with AsyncExitStack() as stack:
            stack.callback(self._passwords.close)
            stack.push_async_callback(self._pool.close)
            await self._pool.open(wait=True, timeout=START_SECONDS)
            async with self._pool.connection() as conn:
                project = await auth_project.ensure(
                    conn, new_key(PUBLISHABLE), new_key(SECRET), secrets.token_bytes(32)
                )
            await self._signing_keys.load()
            reloading = start_supervised(
                "The reload of signing keys", self._signing_keys.reload_repeatedly, self._on_failure
            )
            stack.push_async_callback(cancel_until_done, [reloading])
            keys = ProjectKeys(project["publishable_key"], project["secret_key"])
            await self._realtime.start(keys.role_of, self._tokens.verify)
            stack.push_async_callback(self._realtime.stop)
            mailer = Mailer(self._settings.mail_server) if self._settings.mail_server is not None else None
            if mailer is not None:
                stack.push_async_callback(mailer.stop)
            sessions = self._sessions(bytes(project["refresh_secret"]))
            self._started = _Started(keys, self._auth(keys, sessions, mailer), sessions.attempts)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Close the clients' sockets and the connections to the database."""
        await self._stack.aclose()

    @property
    def publishable_key(self) -> str:
        return self._running.keys.publishable

    @property
    def secret_key(self) -> str:
        return self._running.keys.secret

    @property
    def realtime(self) -> RealtimeServer | None:
        """The sockets of Realtime with their topics and counters; None when another process serves them."""
        return self._realtime.server

    def _disconnect_users(self) -> None:
        if self.realtime is not None:
            self.realtime.disconnect_users()

    @property
    def operators(self) -> BuiltinOperators:
        """The users, while this serves. A process that serves nothing calls `builtin_operators` instead."""
        return BuiltinOperators(self._pool)

    async def user_of(self, session_id: UUID, user_id: UUID) -> DictRow | None:
        """The user of a session as it is now, as of `auth_sessions.user_of`. Raises the errors of the database."""
        async with self._pool.connection() as conn:
            return await auth_sessions.user_of(conn, session_id, user_id)

    async def jwks(self) -> Mapping[str, Any]:
        """The public keys, as `/auth/v1/.well-known/jwks.json` lists them."""
        return self._tokens.jwks()

    async def rotate_signing_key(self, *, revoke: bool = False) -> str:
        """Add a signing key and return its id. `revoke` drops the present keys at once. Raises RotationTooSoon."""
        return await self._signing_keys.rotate(revoke=revoke)

    async def reload_signing_keys(self) -> None:
        """Read the signing keys now and not at the next reload. Raises psycopg.OperationalError."""
        await self._signing_keys.load()

    @property
    def sign_in_failures(self) -> LeakyBuckets:
        """The rate limit of wrong passwords."""
        return self._running.sign_in_failures

    def _sessions(self, refresh_secret: bytes) -> Sessions:
        return Sessions(self._pool, self._tokens, refresh_secret, self._passwords, self._settings, self._on_event)

    def _auth(self, keys: ProjectKeys, sessions: Sessions, mailer: Mailer | None) -> ASGIApp:
        accounts = Accounts(self._pool, self._passwords, self._on_event)
        links = Links(sessions, mailer, self._tokens.issuer) if mailer is not None else None
        return AuthRoutes(sessions, accounts, Gateway(keys, self._tokens), self._on_rejected, links).app()

    async def _serve_auth(self, scope: Scope, receive: Receive, send: Send) -> None:
        auth = self._started.auth if self._started is not None else Response(status_code=503)
        await auth(scope, receive, send)

    @property
    def _running(self) -> _Started:
        assert self._started is not None, "start() comes first"
        return self._started


def create_project_app(builtin: BuiltinSupabase) -> Starlette:
    """An application that serves only the built-in Supabase, in the place of a hosted project. It starts and stops
    with the server."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        await builtin.start()
        try:
            yield
        finally:
            await builtin.stop()

    return Starlette(routes=builtin.routes, lifespan=lifespan)
