"""An agent from start to end: its parts put together, and what happens when it is told to stop."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import platform
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from onsembl.agent import credentials as store
from onsembl.agent.adapters.adapter import Adapter, Surroundings
from onsembl.agent.adapters.claude import ClaudeAdapter
from onsembl.agent.adapters.shell import ShellAdapter
from onsembl.agent.connection import AgentConnection
from onsembl.agent.errors import AgentError
from onsembl.agent.journal import Journal
from onsembl.agent.ladder import LadderTimes
from onsembl.agent.process_tree import adopt_orphans
from onsembl.agent.runner import Runner
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.messages import Hello, Message, Offer, StreamTail
from onsembl.protocol.states import AgentKind, AgentMode

logger = logging.getLogger(__name__)

ADAPTERS: dict[AgentKind, type[ShellAdapter | ClaudeAdapter]] = {
    AgentKind.SHELL: ShellAdapter,
    AgentKind.CLAUDE: ClaudeAdapter,
}
FLUSH_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """How an agent is run. `folder` holds its credentials and its journal."""

    folder: Path
    kind: AgentKind
    cwd: Path
    version: str
    arguments: Sequence[str] = ()
    startup_script: Path | None = None
    times: LadderTimes = field(default_factory=LadderTimes)
    columns: int = 120
    rows: int = 32


async def run_agent(config: AgentConfig) -> None:
    """Run until SIGTERM or SIGINT. Raises AgentError when a person has to act."""
    credentials = store.load(config.folder)
    lock = _lock(config.folder)
    try:
        agent = Agent(config, credentials)
        await agent.run()
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    """One agent at a time works in a folder."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AgentError(f"This agent runs already: {folder} is in use.") from error
    return descriptor


class Agent:
    """The parts of one agent (`Orders` for its connection)."""

    def __init__(self, config: AgentConfig, credentials: store.Credentials) -> None:
        self._config = config
        self._terminal = AgentTerminal(config.columns, config.rows)
        self._journal = Journal(config.folder)
        adapter: Adapter = ADAPTERS[config.kind]()
        surroundings = Surroundings(config.cwd, self._terminal, config.arguments)
        self._connection = AgentConnection(config.folder, credentials, self._terminal, self)
        self._runner = Runner(adapter, surroundings, self._journal, config.times, self._send)

    async def run(self) -> None:
        """Until a signal."""
        if not adopt_orphans():
            logger.info("This system cannot adopt orphans; escaped processes are found by their mark alone")
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self._runner.settle_the_past()
        if self._config.startup_script is not None:
            self._runner.start_up(self._config.startup_script)
        connected = asyncio.create_task(self._connection.run(), name="connection")
        stopping = asyncio.create_task(stop.wait(), name="signal")
        try:
            await asyncio.wait({connected, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await self._runner.stop()
            if not connected.done():
                await self._flush(connected)
        finally:
            stopping.cancel()
            connected.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            self._journal.close()
        try:
            await connected
        except asyncio.CancelledError:
            return

    async def _flush(self, connected: asyncio.Task[None]) -> None:
        """Give the server a moment to take the last bytes and reports."""
        deadline = asyncio.get_running_loop().time() + FLUSH_SECONDS
        while asyncio.get_running_loop().time() < deadline and not connected.done():
            if self._connection.idle and not self._journal.ended:
                return
            await asyncio.sleep(0.02)

    def _send(self, message: Message) -> None:
        self._connection.send(message)

    # Orders

    def offer(self, offer: Offer) -> None:
        self._runner.offer(offer)

    def cancel(self, command_id: UUID) -> None:
        self._runner.cancel(command_id)

    def resize(self, columns: int, rows: int) -> None:
        self._runner.resize(columns, rows)

    def recorded(self, command_id: UUID) -> None:
        self._journal.recorded(command_id)

    def hello(self, stream: StreamTail | None) -> Hello:
        return Hello(
            version=self._config.version,
            kind=self._config.kind,
            mode=AgentMode.EXEC,
            host=socket.gethostname()[:256],
            platform=platform.platform(terse=True)[:256],
            columns=self._terminal.columns,
            rows=self._terminal.rows,
            stream=stream,
            running=list(self._journal.running.values()),
            ended=list(self._journal.ended.values()),
        )
