"""What stands in for a Supabase project when there is none: its Auth and its Realtime, over our own Postgres."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.rows import DictRow
from starlette.routing import BaseRoute, Mount
from starlette.types import Receive, Scope, Send

from onsembl.protocol.states import Role
from onsembl.realtime.auth.routes import AuthRoutes
from onsembl.realtime.auth.service import AuthService, OnAuthEvent
from onsembl.realtime.channels.app import ChannelsApp
from onsembl.realtime.keys import PUBLISHABLE, SECRET, ProjectKeys, new_key
from onsembl.realtime.tokens import AccessTokens, SigningKey
from onsembl.sql import auth_project
from onsembl.sql import auth_users as users
from onsembl.sql.database import Connection, create_pool

AUTH_ROLE = "onsembl_auth"
ACCESS_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class _Parts:
    service: AuthService
    keys: ProjectKeys


class Standin:
    """Serves `/auth/v1` and `/realtime/v1`; `issuer` is what its access tokens name, `…/auth/v1`."""

    def __init__(self, *, database_url: str, issuer: str, on_event: OnAuthEvent) -> None:
        self._url = database_url
        self._issuer = issuer
        self._on_event = on_event
        self._pool = create_pool(database_url, role=AUTH_ROLE, min_size=1, max_size=4)
        self._parts: _Parts | None = None
        self._auth: Any = None
        self._channels = ChannelsApp(database_url)
        self.routes: list[BaseRoute] = [
            Mount("/auth/v1", self._serve_auth),
            Mount("/realtime/v1", self._channels.app),
        ]

    async def start(self) -> None:
        """Read the keys, or make them the first time; then serve."""
        await self._pool.open(wait=True)
        async with self._pool.connection() as conn:
            project = await _project(conn)
            signing = await _signing_keys(conn)
        keys = ProjectKeys(project["publishable_key"], project["secret_key"])
        tokens = AccessTokens(self._issuer, ACCESS_SECONDS, signing)
        service = AuthService(self._pool, tokens, bytes(project["refresh_secret"]), self._on_event)
        self._parts = _Parts(service, keys)
        self._auth = AuthRoutes(service, keys).app()
        await self._channels.start(keys.role_of, tokens.verify)

    async def stop(self) -> None:
        await self._channels.stop()
        await self._pool.close()

    async def _serve_auth(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._auth(scope, receive, send)

    @property
    def publishable_key(self) -> str:
        return self._started.keys.publishable

    @property
    def secret_key(self) -> str:
        return self._started.keys.secret

    async def jwks(self) -> Mapping[str, Any]:
        """The public keys, as `/auth/v1/.well-known/jwks.json` gives them."""
        return self._started.service.tokens.jwks()

    @property
    def _started(self) -> _Parts:
        assert self._parts is not None, "start() comes first"
        return self._parts


async def _project(conn: Connection) -> DictRow:
    return await auth_project.ensure(conn, new_key(PUBLISHABLE), new_key(SECRET), secrets.token_bytes(32))


async def _signing_keys(conn: Connection) -> list[SigningKey]:
    rows = await auth_project.live_keys(conn)
    if not rows:
        first = SigningKey.new()
        await auth_project.add_key(conn, first.kid, first.pem(), only_if_none=True)
        rows = await auth_project.live_keys(conn)
    return [SigningKey.from_pem(row["kid"], row["private_pem"]) for row in rows]


async def add_operator(conn: Connection, email: str, password_hash: str, role: Role) -> bool:
    """Make an operator who can sign in; False when the address is taken. The connection acts as `AUTH_ROLE`."""
    return await users.create(conn, email, password_hash, {"role": role}, {}) is not None
