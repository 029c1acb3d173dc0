"""An agent's program: puts the parts of an agent together, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import platform
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import msgspec

from onsembl.agent.drivers.attached_files import AttachedFiles
from onsembl.agent.drivers.driver import Driver
from onsembl.agent.drivers.git_branch import git_branch
from onsembl.agent.drivers.kinds import DRIVERS, cli_name
from onsembl.agent.emergency_stop import EmergencyStop
from onsembl.agent.enrolment import credentials as store
from onsembl.agent.errors import AgentError, CannotWrite
from onsembl.agent.folder_lock import lock_folder
from onsembl.agent.link.connection import AgentConnection
from onsembl.agent.link.journal import Journal
from onsembl.agent.link.outbox import Outbox
from onsembl.agent.link.problem import ROOM_SECONDS, FolderProblem
from onsembl.agent.link.session import ServerSession
from onsembl.agent.link.step_log import StepLog
from onsembl.agent.looks import Looks
from onsembl.agent.mcp.gateway import ToolGateway
from onsembl.agent.process.process import ProcessContext
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.requests import Requests
from onsembl.agent.runner import Runner
from onsembl.agent.startup import StartupScript
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import LimitName
from onsembl.protocol.messages import (
    MAX_MESSAGE_BYTES,
    Answer,
    Ended,
    Halt,
    Hello,
    Keys,
    Look,
    Message,
    Offer,
    Steer,
    Steps,
    StreamTail,
)
from onsembl.protocol.states import AgentKind, AgentMode
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.visible_text import visible

logger = logging.getLogger(__name__)

R = TypeVar("R")

FLUSH_SECONDS = 5.0
STEPS_SECONDS = 0.25
"""The shortest time between two batches of steps: each becomes a change of the command's progress on the dashboard."""
MAX_FOLDER = 256
"""Of a longer path of the working folder, the end is told, in characters."""
MAX_ENDED = 256
MAX_ENDED_BYTES = MAX_MESSAGE_BYTES // 2
"""How many ends one hello may have, and their size; the rest is in the next hello."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """How to run an agent. `folder` has its credentials, journal and spool."""

    folder: Path
    kind: AgentKind
    cwd: Path
    version: str
    server: str | None = None
    """The server's address, if it is not the one at which the agent was enrolled."""
    arguments: Sequence[str] = ()
    startup_script: Path | None = None
    shows_files: bool = False
    """Whether operators may look at the files of `cwd`."""
    stop_timeouts: StopTimeouts = field(default_factory=StopTimeouts)
    columns: int = 120
    rows: int = 32


async def run_agent(config: AgentConfig) -> bool:
    """Run until SIGTERM, SIGINT or a message of the server; return whether the program is to start anew.

    Raises AgentError when only a person can help.
    """
    cli_name(config.kind, config.arguments)  # before anything is opened
    lock = await _retried(lambda: lock_folder(config.folder), config.folder)
    try:
        credentials = store.load(config.folder)
        if config.server is not None:
            credentials = msgspec.structs.replace(credentials, server=config.server)
        agent_id = UUID(credentials.agent_id)
        files = await _retried(lambda: _open(config.folder, agent_id), config.folder)
        return await Agent(config, credentials, *files).run()
    finally:
        os.close(lock)


async def _retried(use: Callable[[], R], folder: Path) -> R:
    """The result of `use`, which is tried again while the disk is full. Raises AgentError for any other OSError."""
    waits = False
    while True:
        try:
            return use()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise AgentError(f"The agent's folder {folder} cannot be used: {error.strerror}.") from error
            if not waits:
                logger.error(  # noqa: TRY400 — no fault of the program
                    "The agent waits for room in %s: %s", folder, error.strerror, extra={"action": "no_room"}
                )
            waits = True
        await asyncio.sleep(ROOM_SECONDS)


def _open(folder: Path, agent_id: UUID) -> tuple[Outbox, Journal, StepLog]:
    """The agent's files. Raises OSError."""
    with ExitStack() as opened:
        outbox = Outbox(folder / "spool", agent_id)
        opened.callback(outbox.close)
        journal = Journal(folder)
        opened.callback(journal.close)
        steps = StepLog(folder)
        opened.pop_all()
    return outbox, journal, steps


async def _wait_for_stop_signal() -> None:
    """Wait for SIGTERM, SIGINT, or SIGHUP when the agent's own terminal is closed."""
    received = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Under `nohup` SIGHUP is ignored, and stays so for the agent; its commands do not inherit that.
        ignored = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
        loop.add_signal_handler(number, _nothing if ignored else received.set)
    await received.wait()


def _nothing() -> None:
    pass


def fitting_ends(ends: Iterable[Ended]) -> list[Ended]:
    """The first ends that one hello may have."""
    fitting: list[Ended] = []
    size = 0
    for end in islice(ends, MAX_ENDED):
        size += len(msgspec.json.encode(end))
        if size > MAX_ENDED_BYTES:
            break
        fitting.append(end)
    return fitting


class Agent:
    """The parts of one agent; the command handler of its session with the server."""

    def __init__(
        self, config: AgentConfig, credentials: store.Credentials, outbox: Outbox, journal: Journal, steps: StepLog
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._terminal = AgentTerminal(config.columns, config.rows, outbox)
        self._journal = journal
        self._steps = steps
        self._steps_due = 0.0
        """From when on steps may be sent again, on the loop's clock."""
        self._reaper = Reaper(adopt=True)
        driver: Driver = DRIVERS[config.kind]()
        requests, self._tools = Requests(), ToolGateway(config.folder)
        context = ProcessContext(
            config.cwd,
            self._terminal,
            self._reaper,
            config.arguments,
            self._steps,
            config.folder / "driver",
            requests,
            self._tools,
        )
        self._startup = StartupScript(config.startup_script, f"startup-{credentials.agent_id}", context)
        self._session = ServerSession(self._terminal, self)
        self._steps.on_added = self._send_frames
        requests.send = self._session.send
        self._connection = AgentConnection(config.folder, credentials, self._session)
        files = AttachedFiles(config.folder / "attachments", self._connection.fetch)
        self._runner = Runner(
            driver, context, self._journal, config.stop_timeouts, self._session.send, self._startup, files
        )
        self._looks = Looks(config.cwd, self._session.send, shown=config.shows_files)
        self._leaving: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._boot, self._attempts = uuid4(), 0
        self._emergency_stop = EmergencyStop(self._runner, self._reaper, self._session.send)
        self._problem = FolderProblem(self._session.problem_changed)
        outbox.on_failed = journal.on_failed = self._problem.report
        if (failure := journal.failure or outbox.failure) is not None:
            self._problem.report(failure)

    async def run(self) -> bool:
        """Run until a signal or a message of the server; return whether the program is to start anew."""
        if not self._reaper.adopts:
            logger.info("This system cannot adopt orphans: processes that detach are found by their environment alone")
        stopping = asyncio.create_task(_wait_for_stop_signal(), name="signal")
        try:
            await self._tools.start()
        except OSError as error:  # a full disk: commands run without the tools
            logger.warning("Coding CLIs get no tools: %s", error, extra={"action": "tools_failed"})
        await self._runner.clean_up_earlier_run()
        self._startup.start()
        writable = asyncio.create_task(
            self._problem.watch([self._journal.has_room, self._terminal.write_again]), name="problem"
        )
        connected = asyncio.create_task(self._connection.run(), name="connection")
        try:
            await asyncio.wait({connected, stopping, self._leaving}, return_when=asyncio.FIRST_COMPLETED)
            await self._emergency_stop.close()
            await self._runner.shut_down()
            if not connected.done():
                await self._flush(connected)
        finally:
            for task in (stopping, writable, connected):
                task.cancel()
            await asyncio.gather(stopping, writable, connected, return_exceptions=True)
            await self._connection.finish_refresh(FLUSH_SECONDS)
            await self._tools.close()
            self._looks.close()
            self._journal.close()
            self._steps.close()
            self._outbox.close()
            self._reaper.close()
        if not connected.cancelled():
            connected.result()
        return self._leaving.done() and self._leaving.result()

    async def _flush(self, connected: asyncio.Task[None]) -> None:
        """Wait a few seconds until the server has the last bytes and reports."""
        deadline = asyncio.get_running_loop().time() + FLUSH_SECONDS
        while asyncio.get_running_loop().time() < deadline and not connected.done():
            if self._session.idle and not self._journal.ended and self._steps.empty:
                return
            await asyncio.sleep(0.02)

    # The server's messages

    def halt(self, halt: Halt) -> None:
        self._emergency_stop.begin(halt)

    def halt_lifted(self, number: int | None) -> None:
        if number is None:
            self._emergency_stop.lift_all()
        else:
            self._emergency_stop.lift(number)

    def leave(self, *, restart: bool) -> None:
        if not self._leaving.done():
            self._leaving.set_result(restart)

    def offer(self, offer: Offer) -> None:
        if self._emergency_stop.halted:
            return  # the server offers it again when the halt is lifted
        if self.problem is not None and not self._journal.knows(offer.command_id):
            raise CannotWrite(self.problem)
        self._runner.offer(offer)

    @property
    def problem(self) -> str | None:
        return self._problem.text

    def fail(self, command_id: UUID, error: str) -> None:
        self._runner.fail(command_id, error)

    def steer(self, steer: Steer) -> None:
        self._runner.steer(steer)

    def requests_after_welcome(self, *, server_takes: bool) -> list[Message]:
        return self._runner.requests_after_welcome(server_takes=server_takes)

    def clock_after_welcome(self, *, server_takes: bool) -> list[Message]:
        return self._runner.clock_after_welcome(server_takes=server_takes)

    def lines_after_welcome(self, *, server_takes: bool) -> None:
        self._runner.server_takes_lines = server_takes

    def answer(self, answer: Answer) -> None:
        self._runner.answer(answer)

    def cancel(self, command_id: UUID, limit: LimitName | None) -> None:
        self._runner.cancel(command_id, limit)

    def set_stop_timeouts(self, timeouts: StopTimeouts) -> None:
        self._runner.set_stop_timeouts(timeouts)

    def resize(self, columns: int, rows: int) -> None:
        self._runner.resize(columns, rows)

    def type(self, keys: Keys) -> KeysRejection | None:
        return self._runner.type(keys)

    def when_read(self, answer: Callable[[], None]) -> None:
        self._runner.when_read(answer)

    def redraw(self) -> None:
        self._runner.redraw()

    def look(self, look: Look) -> None:
        self._looks.look(look)

    def recall(self, command_id: UUID) -> None:
        self._runner.recall(command_id)

    def end_recorded(self, command_id: UUID) -> None:
        self._journal.recorded(command_id)

    def next_steps(self) -> Steps | None:
        """The next batch of steps, if it is due."""
        return self._steps.next_batch() if asyncio.get_running_loop().time() >= self._steps_due else None

    def resend_steps(self) -> None:
        self._steps.resend()

    def steps_recorded(self, command_id: UUID, through: int) -> None:
        self._steps.recorded(command_id, through)
        loop = asyncio.get_running_loop()
        self._steps_due = loop.time() + STEPS_SECONDS
        loop.call_at(self._steps_due, self._send_frames)

    def _send_frames(self) -> None:
        self._session.on_frame()

    def hello(self, stream: StreamTail | None) -> Hello:
        self._attempts += 1
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
            attempt=self._attempts,
            running=list(self._journal.running.values()),
            ended=fitting_ends(self._journal.ended.values()),
            recalls=True,
            problem=self.problem,
            cli=cli_name(self._config.kind, self._config.arguments),
            takes_steers=DRIVERS[self._config.kind].takes_steers,
            takes_rules=DRIVERS[self._config.kind].takes_rules,
            takes_attachments=DRIVERS[self._config.kind].takes_attachments,
            takes_answers=DRIVERS[self._config.kind].takes_answers,
            tells_work_clock=True,
            takes_forks=DRIVERS[self._config.kind].takes_forks(self._config.arguments),
            shows_files=self._looks.shown,
            folder=visible(str(self._config.cwd.absolute()))[-MAX_FOLDER:],
            branch=git_branch(self._config.cwd),
        )
