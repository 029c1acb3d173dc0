"""A control center for a load test: `onsembl up` on a new data folder, with workers and an operator."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from onsembl.protocol.states import Role

ONSEMBL = (sys.executable, "-m", "onsembl.cli.main")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of an agent."""

    agent_id: str
    access_token: str
    refresh_token: str


@dataclass(slots=True)
class Center:
    """A running control center, used by one operator. `pid` is the server's, if it was started here."""

    url: str
    http: aiohttp.ClientSession
    email: str
    password: str
    pid: int | None = None
    folder: Path | None = None
    token: str = ""
    token_seconds: float = 0.0
    """The lifetime of a token, in seconds."""
    _refresh_token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def rss(self) -> int:
        """The server's memory in bytes; 0 if it was not started here."""
        return psutil.Process(self.pid).memory_info().rss if self.pid is not None else 0

    def postgres(self) -> list[psutil.Process]:
        """The processes of its Postgres; none if it was not started here."""
        if self.folder is None:
            return []
        postmaster = int((self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        return [psutil.Process(postmaster), *psutil.Process(postmaster).children()]

    def connections(self) -> int:
        """The number of connections to its Postgres; 0 if it was not started here."""
        return sum(_is_connection(process) for process in self.postgres())

    async def sign_in(self) -> None:
        """Sign in as the operator. Raises aiohttp.ClientResponseError."""
        await self._grant("password", {"email": self.email, "password": self.password})

    async def renew(self) -> None:
        """Refresh the operator's access token. Raises aiohttp.ClientResponseError."""
        await self._grant("refresh_token", {"refresh_token": self._refresh_token})

    async def _grant(self, kind: str, body: dict[str, str]) -> None:
        config = await self.get("/config.json")
        address = f"{config['supabase_url'] or self.url}/auth/v1/token?grant_type={kind}"
        async with self.http.post(address, json=body, headers={"apikey": config["supabase_key"]}) as answer:
            answer.raise_for_status()
            got = await answer.json()
        self.token, self._refresh_token = got["access_token"], got["refresh_token"]
        self.token_seconds = got["expires_in"]

    def as_operator(self, email: str, password: str) -> Center:
        """The same control center for another operator, who has not signed in yet."""
        return replace(self, email=email, password=password, token="", _refresh_token="")

    async def add_operators(self, count: int) -> list[tuple[str, str]]:
        """Add operators to a center that was started here; return their e-mail addresses and passwords."""
        # Here, for the load process needs neither and starts in half the time.
        from onsembl.cli.server.database_url import running_database
        from onsembl.realtime.builtin_operators import builtin_operators

        assert self.folder is not None
        accounts = [(f"operator-{number}@example.org", secrets.token_urlsafe(12)) for number in range(count)]
        url = await asyncio.to_thread(running_database, None, self.folder)
        async with builtin_operators(url) as directory:
            for email, password in accounts:
                await directory.add(email, password, Role.OPERATOR)
        return accounts

    async def get(self, path: str) -> Any:
        async with self.http.get(self.url + path, headers=self.headers) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def post(self, path: str, body: dict[str, Any], token: str | None = None) -> Any:
        headers = self.headers if token is None else {"Authorization": f"Bearer {token}"}
        async with self.http.post(self.url + path, json=body, headers=headers) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def enrol(self, name: str) -> Credentials:
        """Enrol a new agent."""
        token = (await self.post("/v1/enrolment-tokens", {"name_pattern": name}))["token"]
        made = await self.post("/v1/agents/enrol", {"name": name, "kind": "shell"}, token)
        return Credentials(made["agent_id"], made["access_token"], made["refresh_token"])


def _is_connection(process: psutil.Process) -> bool:
    try:
        return "[local]" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return False


@asynccontextmanager
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    """An HTTP session without a limit on connections."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


@asynccontextmanager
async def center(workers: int = 0, *, no_worker: bool = False) -> AsyncGenerator[Center]:
    """Start one, with its worker inside, with so many beside it, or with none; its data is thrown away.

    It begins with an empty data folder, or with a copy of the one that the environment variable LOAD_DATA names, whose
    Postgres is stopped.
    """
    with tempfile.TemporaryDirectory(prefix="onsembl-load-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # noqa: ASYNC240 — once, before anything runs
        if begin_with := os.environ.get("LOAD_DATA"):
            # With its owners: as root, Postgres runs as another user.
            subprocess.run(["cp", "-a", begin_with, f"{folder}/data"], check=True)  # noqa: ASYNC221 — as above
        environment = clean_environment()
        arguments = ["up", "--port", "0", "--data-dir", f"{folder}/data"]
        if workers or no_worker:
            arguments.append("--no-worker")
        server = await asyncio.create_subprocess_exec(
            *ONSEMBL, *arguments, stdout=asyncio.subprocess.PIPE, env=environment
        )
        beside: list[asyncio.subprocess.Process] = []
        try:
            said = await read_until_ready(server)
            url = said["ready at"]
            command = (*ONSEMBL, "worker", "--data-dir", f"{folder}/data")
            for _ in range(workers):
                beside.append(
                    await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.DEVNULL)
                )
            async with session() as http:
                made = Center(url, http, said["Sign in with"], said["and password"], server.pid, Path(folder) / "data")
                await made.sign_in()
                yield made
        finally:
            for process in (*beside, server):
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                await process.wait()


def clean_environment() -> dict[str, str]:
    """The environment without the settings of another control center."""
    others = ("ONSEMBL_", "SUPABASE_", "DATABASE")
    return {k: v for k, v in os.environ.items() if not k.startswith(others)} | {"PYTHONUNBUFFERED": "1"}


async def read_until_ready(server: asyncio.subprocess.Process) -> dict[str, str]:
    """What it says of itself by then: `ready at`, and at a first start `Sign in with` and `and password`."""
    assert server.stdout is not None
    found: dict[str, str] = {}
    async with asyncio.timeout(180):
        while "ready at" not in found:
            line = (await server.stdout.readline()).decode()
            assert line, "the control center did not start"
            for match in re.finditer(r"(ready at|Sign in with|and password)\s+(\S+)", line):
                found[match[1]] = match[2]
    return found
