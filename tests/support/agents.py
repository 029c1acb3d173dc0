"""Real agents in processes of their own, operators at the REST API, and a link that a test can cut."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import psutil
from support.forked import ONSEMBL, ForkedProcess, fork_onsembl
from support.server import PATIENCE, Api

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.agent.process.tree import COMMAND_ID_VARIABLE
from onsembl.protocol.states import AgentKind

FINAL = {"succeeded", "failed", "cancelled", "timed_out", "lost"}


class RunningAgent:
    """A process of `onsembl agent run`."""

    def __init__(self, id: str, process: ForkedProcess | asyncio.subprocess.Process) -> None:
        self.id = id
        self.process = process

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


@asynccontextmanager
async def agent_running(
    api: Api,
    tmp_path: Path,
    name: str = "one",
    kind: str = "shell",
    server: str | None = None,
    anew: bool = False,
    arguments: Sequence[str] = (),
    options: Sequence[str] = (),
    **spawned: Any,
) -> AsyncGenerator[RunningAgent]:
    """Enrol an agent and run it until the block ends, with these `options`; `arguments` are those for its CLI,
    `spawned` options of `fork_onsembl`. With `anew` it is a new process, which has the memory of a real one: a forked
    one has all modules of the tests."""
    folder = tmp_path / "agents"
    if not (folder / name).exists():
        store.save(folder / name, await enrol(server or api.url, await api.enrolment_token(), name, AgentKind(kind)))
    run = ("agent", "run", "--verbose", "--name", name, "--state-dir", str(folder), "--cwd", str(tmp_path), *options)
    run += ("--", *arguments) if arguments else ()
    process: ForkedProcess | asyncio.subprocess.Process
    if anew:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", ONSEMBL, *run)
    else:
        process = await fork_onsembl(*run, **spawned)
    agent = RunningAgent(store.load(folder / name).agent_id, process)
    try:
        yield agent
    finally:
        await agent.stop()


@asynccontextmanager
async def agent_at(address: str, database_url: str, tmp_path: Path) -> AsyncGenerator[RunningAgent]:
    """Run an agent of a control center that is another process."""
    async with (
        httpx.AsyncClient(base_url=address, timeout=PATIENCE, verify=False) as http,
        agent_running(Api(address, database_url, http), tmp_path) as agent,
    ):
        yield agent


async def until(probe: Callable[[], Awaitable[object]], what: str, seconds: float = 60) -> object:
    """Wait until the probe returns something true, and return that. It runs every 20 ms at first, then every 100 ms."""
    pause = 0.02
    async with asyncio.timeout(seconds):
        while not (found := await probe()):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        return found


class Operator:
    """An operator at the REST API."""

    def __init__(self, api, account) -> None:
        self.api, self.headers = api, account.headers

    async def send(self, agent_id: str, text: str, **fields) -> dict:
        response = await self.api.http.post(
            f"/v1/agents/{agent_id}/commands", json={"text": text, **fields}, headers=self.headers
        )
        assert response.status_code == 201, response.text
        return response.json()

    async def read(self, command: dict) -> dict:
        return (await self.api.http.get(f"/v1/commands/{command['id']}", headers=self.headers)).json()

    async def until_state(self, command: dict, *states: str, seconds: float = 60) -> dict:
        async def reached():
            row = await self.read(command)  # A problem document while the database is unavailable.
            return row if row.get("state") in states else None

        return await until(reached, f"{states}", seconds)

    async def cancel(self, command: dict) -> None:
        response = await self.api.http.post(f"/v1/commands/{command['id']}/cancel", json={}, headers=self.headers)
        assert response.status_code == 202, response.text


async def read_until(socket, wanted: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(60):
        while wanted not in seen:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                seen += frame
    return seen


async def sleepers(command: dict) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "sleep" and process.environ().get(COMMAND_ID_VARIABLE) == command["id"]:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


class CuttableLink:
    """A TCP relay before the API. The test breaks its connections as a dead network would."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._severed = False
        self.rejected = 0
        """How many connections were rejected."""
        self._dropping_answers = False
        self._passing = {"requests": asyncio.Event(), "answers": asyncio.Event()}
        for passing in self._passing.values():
            passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> CuttableLink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def sever(self) -> None:
        """Cut all connections and reject new ones until `mend`."""
        self._severed = True
        self.cut()

    def drop_answers(self) -> None:
        """Drop the server's bytes until `mend`. Call `cut` before that, as the streams have lost bytes."""
        self._dropping_answers = True

    def lead_to(self, target: str) -> None:
        """Pass new connections on to another server from now on."""
        self._target = urlsplit(target)
        self.mend()

    def hold(self, direction: Literal["requests", "answers"]) -> None:
        """Pass nothing on in one direction until `mend`, and lose nothing: as a network that is silent one way."""
        self._passing[direction].clear()

    def mend(self) -> None:
        self._severed = self._dropping_answers = False
        for passing in self._passing.values():
            passing.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._severed:
            self.rejected += 1
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        except ConnectionError:  # The server is not listening now.
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        await asyncio.gather(
            self._pump(reader, server_writer, self.passes_request, self._passing["requests"]),
            self._pump(server_reader, writer, self.passes_answer, self._passing["answers"]),
        )

    def passes_request(self, data: bytes) -> bool:
        """Whether these bytes of the client reach the server."""
        return True

    def passes_answer(self, data: bytes) -> bool:
        """Whether these bytes of the server reach the client."""
        return not self._dropping_answers

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: Callable[[bytes], bool],
        passing: asyncio.Event,
    ) -> None:
        try:
            while data := await reader.read(65536):
                await passing.wait()
                if writer.is_closing():  # cut
                    return
                if passes(data):
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
