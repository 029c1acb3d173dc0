"""The built-in Supabase Auth alone, called in this process, with cheap password hashes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from onsembl.realtime.auth.accounts import Accounts
from onsembl.realtime.auth.events import AuthEvent
from onsembl.realtime.auth.gateway import Gateway
from onsembl.realtime.auth.links import Links
from onsembl.realtime.auth.mailer import Mailer
from onsembl.realtime.auth.passwords import Passwords
from onsembl.realtime.auth.routes import AuthRoutes
from onsembl.realtime.auth.sessions import Sessions
from onsembl.realtime.auth.settings import AUTH_ROLE, AuthSettings
from onsembl.realtime.auth.signing_keys import SigningKeys
from onsembl.realtime.keys import PUBLISHABLE, SECRET, ProjectKeys, new_key
from onsembl.realtime.tokens import AccessTokens
from onsembl.sql.database import Pool, create_pool

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"


@dataclass
class Auth:
    """Auth over HTTP. `http` sends the publishable key, as a page does; `admin` are the headers of a server."""

    http: httpx.AsyncClient
    sessions: Sessions
    accounts: Accounts
    signing_keys: SigningKeys
    keys: ProjectKeys
    pool: Pool
    app: Starlette
    events: list[AuthEvent] = field(default_factory=list)

    @property
    def admin(self) -> dict[str, str]:
        return {"apikey": self.keys.secret, "Authorization": f"Bearer {self.keys.secret}"}

    async def create(self, email: str = EMAIL, **attributes: Any) -> dict[str, Any]:
        """Create a user as an admin; the user can sign in with `PASSWORD`."""
        body = {"email": email, "password": PASSWORD, "email_confirm": True, **attributes}
        response = await self.http.post("/admin/users", json=body, headers=self.admin)
        assert response.status_code == 200, response.text
        self.events.clear()
        return response.json()

    async def sign_in(self, email: str = EMAIL, password: str = PASSWORD) -> httpx.Response:
        return await self.http.post("/token?grant_type=password", json={"email": email, "password": password})

    async def session(self, email: str = EMAIL, password: str = PASSWORD) -> dict[str, Any]:
        response = await self.sign_in(email, password)
        assert response.status_code == 200, response.text
        return response.json()

    async def refresh(self, token: str) -> httpx.Response:
        return await self.http.post("/token?grant_type=refresh_token", json={"refresh_token": token})

    async def user(self, access_token: str) -> httpx.Response:
        return await self.http.get("/user", headers=bearer(access_token))

    async def execute(self, statement: str, *values: Any) -> None:
        """Execute a statement in the database, for example to let time pass."""
        async with self.pool.connection() as conn:
            await conn.execute(statement, values)  # type: ignore[arg-type]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def code(response: httpx.Response) -> tuple[int, str]:
    """The status and the code of an error."""
    assert response.headers["x-sb-error-code"] == response.json()["code"]
    return response.status_code, response.json()["code"]


@pytest.fixture
def auth_settings() -> AuthSettings:
    return AuthSettings(key_publish_seconds=0.0)


@pytest.fixture
async def auth(database_url: str, auth_settings: AuthSettings) -> AsyncGenerator[Auth]:
    events: list[AuthEvent] = []

    async def on_event(event: AuthEvent) -> None:
        events.append(event)

    passwords = Passwords()
    tokens = AccessTokens("http://project.test/auth/v1", auth_settings.access_token_lifetime)
    keys = ProjectKeys(new_key(PUBLISHABLE), new_key(SECRET))
    async with create_pool(database_url, role=AUTH_ROLE, max_size=4) as pool:
        signing_keys = SigningKeys(pool, tokens, auth_settings)
        await signing_keys.load()
        sessions = Sessions(pool, tokens, b"secret" * 6, passwords, auth_settings, on_event)
        accounts = Accounts(pool, passwords, on_event)
        mailer = Mailer(auth_settings.mail_server) if auth_settings.mail_server is not None else None
        links = Links(sessions, mailer, tokens.issuer) if mailer is not None else None
        app = AuthRoutes(sessions, accounts, Gateway(keys, tokens), links=links).app()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, client=("192.0.2.1", 1000)),
            base_url="http://project.test",
            headers={"apikey": keys.publishable, "X-Supabase-Api-Version": "2024-01-01"},
        ) as http:
            yield Auth(http, sessions, accounts, signing_keys, keys, pool, app, events)
        if mailer is not None:
            await mailer.stop()
    passwords.close()
