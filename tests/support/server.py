"""The API on a real socket, and the operations that tests need on it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import uvicorn
from argon2 import PasswordHasher
from starlette.applications import Starlette
from websockets.asyncio.client import connect

from onsembl.api.app import create_app
from onsembl.api.services import Services
from onsembl.api.serving import uvicorn_config
from onsembl.api.settings import Settings
from onsembl.protocol.messages import AGENT_SUBPROTOCOL, TERMINAL_SUBPROTOCOL
from onsembl.protocol.states import Role
from onsembl.realtime.auth.settings import AUTH_ROLE
from onsembl.realtime.builtin_operators import add_operator
from onsembl.sql.database import Connection
from onsembl.sql.database import connect as connect_database
from onsembl.sql.enrolment import add_token

PASSWORD = "correct horse battery"
PATIENCE = 60.0
"""How many seconds an answer may take on a busy machine."""


@dataclass(frozen=True)
class Account:
    """A signed-in operator."""

    email: str
    access_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}


@dataclass
class Enrolled:
    """An agent's credentials."""

    id: str
    name: str
    access_token: str
    refresh_token: str
    recovery_secret: str = ""


class Api:
    """A running API instance."""

    def __init__(self, url: str, database_url: str, http: httpx.AsyncClient, app: Starlette | None = None) -> None:
        self._app = app
        self.url = url
        self.database_url = database_url
        self.http = http

    @property
    def services(self) -> Services:
        """The instance's services, for faults that cannot be caused from outside."""
        assert self._app is not None, "the instance is another process"
        return self._app.state.services

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        """One of the instance's connections, or an own one if the instance is another process."""
        if self._app is not None:
            async with self.services.pool.connection() as conn:
                yield conn
        else:
            async with await connect_database(self.database_url, role="onsembl_api") as conn:
                yield conn

    async def operator(self, role: Role = Role.ADMIN, name: str | None = None) -> Account:
        """Add an operator and sign in. An operator without a name is called as the role."""
        email = f"{name or role}@example.org"
        async with self._connection() as conn:
            await conn.execute(f"set local role {AUTH_ROLE}")
            await add_operator(conn, email, PasswordHasher().hash(PASSWORD), role)
        return await self.sign_in(email)

    async def sign_in(self, email: str) -> Account:
        """Sign an operator in who was added before."""
        response = await self.http.post(
            "/auth/v1/token?grant_type=password",
            json={"email": email, "password": PASSWORD},
            headers={"apikey": await self.key()},
        )
        response.raise_for_status()
        return Account(email, response.json()["access_token"])

    async def key(self) -> str:
        """The publishable key."""
        return (await self.http.get("/config.json")).json()["supabase_key"]

    async def enrolment_token(self, pattern: str = "*") -> str:
        token = f"one_{secrets.token_hex(16)}"
        async with self._connection() as conn:
            await add_token(conn, token, pattern, 600, None)
        return token

    async def enrol(self, name: str = "one", kind: str = "shell") -> Enrolled:
        """Enrol an agent."""
        response = await self.http.post(
            "/v1/agents/enrol",
            json={"name": name, "kind": kind},
            headers={"Authorization": f"Bearer {await self.enrolment_token()}"},
        )
        response.raise_for_status()
        body = response.json()
        return Enrolled(
            body["agent_id"], body["name"], body["access_token"], body["refresh_token"], body["recovery_secret"]
        )

    def agent_socket(self, agent: Enrolled) -> connect:
        return connect(
            self.url.replace("http", "ws") + "/v1/agent",
            additional_headers={"Authorization": f"Bearer {agent.access_token}"},
            subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=PATIENCE,
        )

    def terminal_socket(self, agent_id: str, **kwargs: Any) -> connect:
        return connect(
            self.url.replace("http", "ws") + f"/v1/agents/{agent_id}/terminal",
            subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=PATIENCE,
            **kwargs,
        )


@asynccontextmanager
async def running(settings: Settings, *, reachable: bool = False) -> AsyncGenerator[Api]:
    """Serve with these settings on a free port, which is public unless the settings name another URL. With `reachable`,
    it is the instance's own address as well."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    url = f"http://{address}"
    app = create_app(
        replace(settings, public_url=settings.public_url or url, address=address if reachable else settings.address)
    )
    server = uvicorn.Server(uvicorn_config(app))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    # `verify=False` because a client with TLS takes 18 ms to create.
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, verify=False) as http:
        while not server.started:
            assert not serving.done(), "the server did not start"
            await asyncio.sleep(0.01)
        try:
            yield Api(url, settings.database_url, http, app)
        finally:
            server.should_exit = True
            await serving
            listener.close()
