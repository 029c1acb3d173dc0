"""The parts of a control center as processes that a test kills, and viewers that resume at their offset."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import psutil
from support.agents import CuttableLink, until
from support.control_center import clean_environment
from support.forked import ForkedProcess, fork_onsembl
from support.ports import free_port
from support.server import Api
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.cli.errors import CliError
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.messages import TERMINAL_SUBPROTOCOL
from onsembl.protocol.states import AgentKind

PUBLIC_URL = "https://onsembl.example"
"""The issuer of the operators' tokens, which is the same for every instance."""


class Part:
    """A process that is restarted whenever it exits, as a service manager does. Its output goes to a file."""

    def __init__(
        self, folder: Path, name: str, *arguments: str, database_url: str | None = None, **environment: str
    ) -> None:
        self._log = folder / f"{name}.log"
        self._arguments = arguments
        database = {} if database_url is None else {"DATABASE_URL": database_url}
        self._environment = clean_environment(**database, **environment)
        self._process: ForkedProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._process = await self._forked()
        self._supervisor = asyncio.create_task(self._supervise(self._process))

    async def _supervise(self, process: ForkedProcess) -> None:
        while True:
            await process.wait()
            self._process = process = await self._forked()

    async def _forked(self) -> ForkedProcess:
        with self._log.open("ab") as log:
            return await fork_onsembl(*self._arguments, stdout=log, stderr=log, env=self._environment)

    async def kill(self) -> None:
        """Send SIGKILL; the process is restarted."""
        await self._signal(signal.SIGKILL)

    async def drain(self) -> None:
        """Send SIGTERM; the process ends by itself, and is restarted."""
        await self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop the process until `thaw`: its sockets stay open, and it does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Stop the process without a restart."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        await self._signal(signal.SIGTERM)

    async def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:
            if process.returncode is None:
                process.send_signal(number)
            await process.wait()


class ApiPart(Part):
    """An `onsembl up` that keeps its address over restarts. Each of several has a name and a data folder."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        worker: bool = False,
        name: str = "api",
        data: str = "data",
        port: int | None = None,
        **environment: str,
    ) -> None:
        port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            folder,
            name,
            *("up", *([] if worker else ["--no-worker"]), "--port", str(port), "--data-dir", str(folder / data)),
            database_url=database_url,
            **environment,
        )

    def memory(self) -> int:
        """The resident memory, in bytes."""
        assert self._process is not None
        return psutil.Process(self._process.pid).memory_info().rss

    async def ready(self, http: httpx.AsyncClient) -> None:
        async def is_ready() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_ready, "the API")


async def reachable_part(stack: AsyncExitStack, database_url: str, folder: Path) -> tuple[ApiPart, Api]:
    """An instance that is a process, and that others reach."""
    port = free_port()
    address = {"ONSEMBL_INSTANCE_ADDRESS": f"127.0.0.1:{port}", "ONSEMBL_PUBLIC_URL": PUBLIC_URL}
    part = ApiPart(folder, database_url, port=port, **address)
    await part.start()
    stack.push_async_callback(part.stop)
    http = await stack.enter_async_context(httpx.AsyncClient(base_url=part.url, timeout=60))
    await part.ready(http)
    return part, Api(part.url, database_url, http)


class AgentPart(Part):
    """An `onsembl agent run` that keeps its state over restarts."""

    def __init__(self, folder: Path, name: str, state: Path, **environment: str) -> None:
        run = ("agent", "run", "--verbose", "--name", name, "--state-dir", str(state), "--cwd", str(folder))
        super().__init__(folder, name, *run, **environment)

    async def enrol(self, api: Api, name: str, state: Path, server: str, kind: str = "shell") -> str:
        """Enrol the agent, and return its id."""
        credentials = await enrol(server, await api.enrolment_token(), name, AgentKind(kind))
        store.save(state / name, credentials)
        return credentials.agent_id


class PostgresPart:
    """A Postgres server. When its main process is killed, all of its processes end."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._restarting = asyncio.Lock()

    async def kill(self) -> None:
        async with self._restarting:
            await asyncio.to_thread(self._server.stop, signal.SIGKILL)
            await asyncio.to_thread(self._server.start)

    async def keep_running(self) -> None:
        """Start the server again whenever it has ended, until cancelled; it may need several attempts."""
        while True:
            await asyncio.sleep(0.2)
            if not self._server.running:
                async with self._restarting:
                    with suppress(CliError):
                        await asyncio.to_thread(self._server.start)

    @property
    def postmaster(self) -> psutil.Process:
        return psutil.Process(self._server.pid)

    def backends(self) -> list[psutil.Process]:
        """The processes that serve connections, and the server's own."""
        with suppress(psutil.NoSuchProcess, AssertionError):
            return self.postmaster.children()
        return []


class ChaosViewer:
    """Reads one agent's terminal from the offset of its first attach on, over any number of connections.

    `seen` are the bytes since `start`; `faults` are the messages upon which the viewer lost its place.
    """

    def __init__(self, link: CuttableLink, agent_id: str, token: str, *, wanted: bytes | None = None) -> None:
        self._url = link.url.replace("http", "ws") + f"/v1/agents/{agent_id}/terminal"
        self._token = token
        self._wanted = wanted
        self.stream_id: str | None = None
        self.start = 0
        self.seen = bytearray()
        self.faults: list[str] = []
        self.past: list[tuple[str, int, bytes]] = []
        """What was seen before the viewer lost its place: stream, first offset, bytes."""
        self._reading = asyncio.Event()
        self._reading.set()
        self.task = asyncio.create_task(self._run())

    @property
    def offset(self) -> int:
        return self.start + len(self.seen)

    @property
    def present(self) -> tuple[str | None, int, bytes]:
        """The stream that is seen now, the first offset, and the bytes from there."""
        return self.stream_id, self.start, bytes(self.seen)

    def renew(self, token: str) -> None:
        """Use another access token from the next connection on."""
        self._token = token

    async def pause(self, resumed: asyncio.Event) -> None:
        """Read nothing until the event is set."""
        self._reading.clear()
        await resumed.wait()
        self._reading.set()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(random.uniform(0.05, 0.3))  # As the page does.
            else:
                return

    async def _read(self) -> None:
        async with connect(
            self._url,
            subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=10,
            close_timeout=1,
            ping_interval=None,
        ) as websocket:
            resume = {"stream_id": self.stream_id, "offset": self.offset} if self.stream_id else {}
            await websocket.send(json.dumps({"type": "attach", "access_token": self._token, **resume}))
            while self._wanted is None or self._wanted not in self.seen[-4096:]:
                await self._reading.wait()
                frame = await websocket.recv()
                if isinstance(frame, bytes):
                    self.seen += frame
                else:
                    await self._handle(websocket, json.loads(frame))

    async def _handle(self, websocket, message: dict) -> None:
        match message["type"]:
            case "attached" if self.stream_id is None:
                self.stream_id, self.start = message["stream_id"], message["offset"]
            case "attached" if message["stream_id"] != self.stream_id or message["mode"] != "exact":
                self._restart(message)
            case "gap":
                self._restart(message | {"stream_id": self.stream_id})
            case "stream_started" if self.stream_id is None:
                self.stream_id, self.start = message["stream_id"], message["offset"]
            case "stream_started":
                self._restart(message)
            case "ping":
                await websocket.send('{"type":"pong"}')
            case _:
                pass

    def _restart(self, message: dict) -> None:
        assert self.stream_id is not None
        self.past.append((self.stream_id, self.start, bytes(self.seen)))
        self.faults.append(f"at {self.offset} of {self.stream_id}: {message}")
        self.stream_id, self.start, self.seen = message["stream_id"], message["offset"], bytearray()
