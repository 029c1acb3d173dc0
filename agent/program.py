"""An agent from start to end: its parts put together, and what happens when it is told to stop."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import platform
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import msgspec

from onsembl.agent.drivers.claude.driver import ClaudeAdapter
from onsembl.agent.drivers.driver import Adapter
from onsembl.agent.drivers.shell import ShellAdapter
from onsembl.agent.emergency_stop import EmergencyStop
from onsembl.agent.enrolment import credentials as store
from onsembl.agent.errors import AgentError
from onsembl.agent.link.connection import AgentConnection
from onsembl.agent.link.dialogue import Conversation
from onsembl.agent.link.journal import Journal
from onsembl.agent.link.spooled_outbox import SpooledOutbox
from onsembl.agent.process.program import Surroundings
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.process.terminal import AgentTerminal
from onsembl.agent.runner import Runner
from onsembl.agent.startup import Startup
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import LimitName
from onsembl.protocol.messages import Halt, Hello, Keys, Offer, StreamTail
from onsembl.protocol.states import AgentKind, AgentMode
from onsembl.protocol.stop_timeouts import StopTimeouts

logger = logging.getLogger(__name__)

ADAPTERS: dict[AgentKind, type[ShellAdapter | ClaudeAdapter]] = {
    AgentKind.SHELL: ShellAdapter,
    AgentKind.CLAUDE: ClaudeAdapter,
}
FLUSH_SECONDS = 5.0
MAX_ENDED = 256
"""What one hello may hold; the rest is said in the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """How an agent is run. `folder` holds its credentials and its journal."""

    folder: Path
    kind: AgentKind
    cwd: Path
    version: str
    server: str | None = None
    """Another address of the server than the one that it was enrolled at."""
    arguments: Sequence[str] = ()
    startup_script: Path | None = None
    times: StopTimeouts = field(default_factory=StopTimeouts)
    columns: int = 120
    rows: int = 32


async def run_agent(config: AgentConfig) -> bool:
    """Run until SIGTERM, SIGINT, or the server's word; whether the program is to start anew.

    Raises AgentError when a person has to act.
    """
    lock = _lock(config.folder)
    try:
        credentials = store.load(config.folder)
        if config.server is not None:
            credentials = msgspec.structs.replace(credentials, server=config.server)
        try:
            agent = Agent(config, credentials)
        except OSError as error:
            raise AgentError(f"The agent's folder {config.folder} cannot be used: {error}") from error
        return await agent.run()
    finally:
        os.close(lock)


async def _told_to_stop() -> None:
    """Until SIGTERM, SIGINT, or the terminal that the agent was started in is closed."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Under `nohup` the hang-up is ignored, and stays so for the agent; its commands get the usual ways back.
        ignored = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
        loop.add_signal_handler(number, _nothing if ignored else told.set)
    await told.wait()


def _nothing() -> None:
    pass


def _lock(folder: Path) -> int:
    """One agent at a time works in a folder."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise AgentError(f"The agent's folder {folder} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AgentError(f"This agent runs already: {folder} is in use.") from error
    return descriptor


class Agent:
    """The parts of one agent (`Orders` for its conversation with the server)."""

    def __init__(self, config: AgentConfig, credentials: store.Credentials) -> None:
        self._config = config
        self._outbox = SpooledOutbox(config.folder / "spool", UUID(credentials.agent_id))
        self._terminal = AgentTerminal(config.columns, config.rows, self._outbox, ends_line=self._outbox.ends_line)
        self._journal = Journal(config.folder)
        self._reaper = Reaper(adopt=True)
        adapter: Adapter = ADAPTERS[config.kind]()
        surroundings = Surroundings(config.cwd, self._terminal, self._reaper, config.arguments)
        self._startup = Startup(config.startup_script, f"startup-{credentials.agent_id}", surroundings)
        self._conversation = Conversation(self._terminal, self)
        self._connection = AgentConnection(config.folder, credentials, self._conversation)
        self._runner = Runner(adapter, surroundings, self._journal, config.times, self._conversation.say, self._startup)
        self._leaving: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._boot = uuid4()
        self._emergency = EmergencyStop(self._runner, self._reaper, self._conversation.say)

    async def run(self) -> bool:
        """Until a signal or the server's word; whether it is to start anew."""
        if not self._reaper.adopts:
            logger.info("This system cannot adopt orphans; escaped processes are found by their mark alone")
        stopping = asyncio.create_task(_told_to_stop(), name="signal")
        try:
            await self._runner.settle_the_past()
        except OSError as error:
            raise AgentError(f"The agent's journal in {self._config.folder} cannot be written: {error}") from error
        self._startup.begin()
        connected = asyncio.create_task(self._connection.run(), name="connection")
        try:
            await asyncio.wait({connected, stopping, self._leaving}, return_when=asyncio.FIRST_COMPLETED)
            await self._emergency.end()
            await self._runner.stop()
            if not connected.done():
                await self._flush(connected)
        finally:
            stopping.cancel()
            connected.cancel()
            await asyncio.gather(stopping, connected, return_exceptions=True)
            await self._connection.settle(FLUSH_SECONDS)
            self._journal.close()
            self._outbox.close()
            self._reaper.close()
        if not connected.cancelled():
            connected.result()
        return self._leaving.done() and self._leaving.result()

    async def _flush(self, connected: asyncio.Task[None]) -> None:
        """Give the server a moment to take the last bytes and reports."""
        deadline = asyncio.get_running_loop().time() + FLUSH_SECONDS
        while asyncio.get_running_loop().time() < deadline and not connected.done():
            if self._conversation.idle and not self._journal.ended:
                return
            await asyncio.sleep(0.02)

    # Orders

    def halt(self, halt: Halt) -> None:
        self._emergency.begin(halt)

    def halt_lifted(self, number: int | None) -> None:
        if number is None:
            self._emergency.lifted()
        else:
            self._emergency.lift(number)

    def leave(self, *, restart: bool) -> None:
        if not self._leaving.done():
            self._leaving.set_result(restart)

    def offer(self, offer: Offer) -> None:
        if not self._emergency.halted:  # else the server offers it again when the halt is lifted
            self._runner.offer(offer)

    def cancel(self, command_id: UUID, limit: LimitName | None) -> None:
        self._runner.cancel(command_id, limit)

    def take_times(self, times: StopTimeouts) -> None:
        self._runner.take_times(times)

    def resize(self, columns: int, rows: int) -> None:
        self._runner.resize(columns, rows)

    def type(self, keys: Keys) -> KeysRejection | None:
        return self._runner.type(keys)

    def once_read(self, answer: Callable[[], None]) -> None:
        self._runner.once_read(answer)

    def redraw(self) -> None:
        self._runner.redraw()

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
            boot=self._boot,
            running=list(self._journal.running.values()),
            ended=list(self._journal.ended.values())[:MAX_ENDED],
        )
