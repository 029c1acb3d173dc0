"""A control center of a load test's own: `onsembl up` on a new data folder, workers beside it, and its operator."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

ONSEMBL = (sys.executable, "-m", "onsembl.cli.main")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An agent's."""

    agent_id: str
    access_token: str
    refresh_token: str


@dataclass(slots=True)
class Center:
    """A running one; `pid` is the server's, if it was started here."""

    url: str
    http: aiohttp.ClientSession
    email: str
    password: str
    pid: int | None = None
    folder: Path | None = None
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def rss(self) -> int:
        """The server's memory, in bytes; 0 when it was not started here."""
        return psutil.Process(self.pid).memory_info().rss if self.pid is not None else 0

    def postgres(self) -> list[psutil.Process]:
        """The processes of its Postgres; none when it was not started here."""
        if self.folder is None:
            return []
        postmaster = int((self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        return [psutil.Process(postmaster), *psutil.Process(postmaster).children()]

    def connections(self) -> int:
        """Those to its Postgres; 0 when it was not started here."""
        return sum("[local]" in " ".join(process.cmdline()) for process in self.postgres())

    async def sign_in(self) -> None:
        """Get an operator's access token. Raises aiohttp.ClientResponseError."""
        config = await self.get("/config.json")
        account = {"email": self.email, "password": self.password}
        address = f"{config['supabase_url'] or self.url}/auth/v1/token?grant_type=password"
        async with self.http.post(address, json=account, headers={"apikey": config["supabase_key"]}) as answer:
            answer.raise_for_status()
            self.token = (await answer.json())["access_token"]

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
        """A new agent."""
        token = (await self.post("/v1/enrolment-tokens", {"name_pattern": name}))["token"]
        made = await self.post("/v1/agents/enrol", {"name": name, "kind": "shell"}, token)
        return Credentials(made["agent_id"], made["access_token"], made["refresh_token"])


@asynccontextmanager
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    """Connections without a bound of their own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


@asynccontextmanager
async def center(workers: int = 0) -> AsyncGenerator[Center]:
    """Start one, with its worker inside or with so many beside it; its data is thrown away."""
    with tempfile.TemporaryDirectory(prefix="onsembl-load-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # noqa: ASYNC240 — once, before anything runs
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ONSEMBL_", "SUPABASE_", "DATABASE"))}
        arguments = ["up", "--port", "0", "--data-dir", f"{folder}/data", *(["--no-worker"] if workers else [])]
        server = await asyncio.create_subprocess_exec(
            *ONSEMBL, *arguments, stdout=asyncio.subprocess.PIPE, env=environment | {"PYTHONUNBUFFERED": "1"}
        )
        beside: list[asyncio.subprocess.Process] = []
        try:
            said = await _read_until_ready(server)
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


async def _read_until_ready(server: asyncio.subprocess.Process) -> dict[str, str]:
    assert server.stdout is not None
    found: dict[str, str] = {}
    async with asyncio.timeout(180):
        while "ready at" not in found:
            line = (await server.stdout.readline()).decode()
            assert line, "the control center did not start"
            for match in re.finditer(r"(ready at|Sign in with|and password)\s+(\S+)", line):
                found[match[1]] = match[2]
    return found
