"""The parts of a control center as processes of their own, to be killed; and viewers, who come back at their byte."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from pathlib import Path

import httpx
import psutil
from support.agents import CuttableLink, until
from support.control_center import clean_environment
from support.ports import free_port
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.messages import TERMINAL_SUBPROTOCOL

ONSEMBL = (sys.executable, "-m", "onsembl.cli.main")


class Part:
    """A program that is started again each time it was killed, or has ended by itself, as whatever supervises it in
    earnest would; what it says goes to a file."""

    def __init__(self, folder: Path, name: str, *arguments: str, database_url: str, **environment: str) -> None:
        self._log = folder / f"{name}.log"
        self._arguments = arguments
        self._environment = clean_environment(DATABASE_URL=database_url, **environment)
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        started = asyncio.Event()
        self._supervisor = asyncio.create_task(self._supervise(started))
        await started.wait()

    async def _supervise(self, started: asyncio.Event) -> None:
        while True:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(*ONSEMBL, *self._arguments), stdout=log, stderr=log, env=self._environment
                )
            started.set()
            await self._process.wait()

    async def kill(self) -> None:
        """`kill -9`; another is started."""
        await self._signal(signal.SIGKILL)

    async def end(self) -> None:
        """For good."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        await self._signal(signal.SIGTERM)

    async def _signal(self, how: signal.Signals) -> None:
        process = self._process
        if process is not None:
            if process.returncode is None:
                process.send_signal(how)
            await process.wait()


class ApiPart(Part):
    """An `onsembl up` at an address that stays."""

    def __init__(self, folder: Path, database_url: str, *, worker: bool = False, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            folder,
            "api",
            *("up", *([] if worker else ["--no-worker"]), "--port", str(port), "--data-dir", str(folder / "data")),
            database_url=database_url,
            **environment,
        )

    def memory(self) -> int:
        """What it has in memory, in bytes."""
        assert self._process is not None
        return psutil.Process(self._process.pid).memory_info().rss

    async def ready(self, http: httpx.AsyncClient) -> None:
        async def answers() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers, "the API")


class PostgresPart:
    """The server, killed with all of its processes by the death of their parent."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._restarting = asyncio.Lock()

    async def kill(self) -> None:
        async with self._restarting:
            await asyncio.to_thread(self._server.stop, signal.SIGKILL)
            await asyncio.to_thread(self._server.start)


class ChaosViewer:
    """Follows one agent's terminal from where it first attached, over any number of connections."""

    def __init__(self, link: CuttableLink, agent_id: str, token: str, *, wanted: bytes | None = None) -> None:
        self._url = link.url.replace("http", "ws") + f"/v1/agents/{agent_id}/terminal"
        self._token = token
        self._wanted = wanted
        self.stream_id: str | None = None
        self.start = 0
        self.seen = bytearray()
        self.faults: list[str] = []
        self._stuck = asyncio.Event()
        self._stuck.set()
        self.task = asyncio.create_task(self._run())

    @property
    def place(self) -> int:
        return self.start + len(self.seen)

    async def be_stuck(self, progress: asyncio.Event) -> None:
        """Read nothing until something else has come about."""
        self._stuck.clear()
        await progress.wait()
        self._stuck.set()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(random.uniform(0.05, 0.3))  # as a browser does
            else:
                return

    async def _follow(self) -> None:
        async with connect(
            self._url,
            subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=10,
            close_timeout=1,
            ping_interval=None,
        ) as websocket:
            place = {"stream_id": self.stream_id, "offset": self.place} if self.stream_id else {}
            await websocket.send(json.dumps({"type": "attach", "access_token": self._token, **place}))
            while self._wanted is None or self._wanted not in self.seen[-4096:]:
                await self._stuck.wait()
                frame = await websocket.recv()
                if isinstance(frame, bytes):
                    self.seen += frame
                else:
                    await self._obey(websocket, json.loads(frame))

    async def _obey(self, websocket, message: dict) -> None:
        match message["type"]:
            case "attached" if self.stream_id is None:
                self.stream_id, self.start = message["stream_id"], message["offset"]
            case "attached" if message["stream_id"] != self.stream_id or message["mode"] != "exact":
                self._begin_anew(message)
            case "gap":
                self._begin_anew(message | {"stream_id": self.stream_id})
            case "stream_started" if self.stream_id is None:
                self.stream_id, self.start = message["stream_id"], message["offset"]
            case "stream_started":
                self._begin_anew(message)
            case "ping":
                await websocket.send('{"type":"pong"}')
            case _:
                pass

    def _begin_anew(self, message: dict) -> None:
        self.faults.append(f"at {self.place} of {self.stream_id}: {message}")
        self.stream_id, self.start, self.seen = message["stream_id"], message["offset"], bytearray()
