"""Kind `shell`: each command is a command line for bash, run in a pseudo-terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from onsembl.agent.drivers.attached_files import AttachedFile
from onsembl.agent.drivers.idle_watch import IdleWatch, Wait
from onsembl.agent.drivers.step_recorder import short
from onsembl.agent.process.process import Process, ProcessContext
from onsembl.agent.process.terminal_calls import TerminalCalls
from onsembl.agent.rendering.last_line import LastLine
from onsembl.agent.requests import Requests
from onsembl.protocol.attention_messages import Asked, Decision, IdleBody, digest_of
from onsembl.protocol.messages import Offer
from onsembl.protocol.work_clock import WorkClock

SHELL = ("/bin/bash", "-c", "--")  # after `--`, a command line that begins with a dash is no option
CTRL_C = b"\x03"
LOOK_SECONDS = 1.0
"""How often a command line is looked at: whether it waits for a person or goes on, and what its last line is."""


class ShellRun:
    """A running command line, whose calls for a person are requests without an answer."""

    usage = None
    turn = None
    completed = False
    exceeded = None
    steer = None

    def __init__(self, process: Process, command_id: UUID, requests: Requests) -> None:
        self.process = process
        self.clock = WorkClock(asyncio.get_running_loop().time())
        """It never stands still: a call, or a guess, does not stop it, for many programs ring the bell."""
        self.progressed = asyncio.Event()
        self.on_steered: Callable[[UUID, int], None] = lambda _id, _step: None
        self._command_id = command_id
        self._requests = requests
        self._loop = asyncio.get_running_loop()
        self._calls = TerminalCalls()
        self._last_line = LastLine()
        self.last_line = ""
        self._watch = IdleWatch(self._loop.time())
        process.on_terminal_output = self._output
        process.on_typed = lambda: self._watch.typed(self._loop.time())
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def interrupt(self) -> None:
        self.process.press_interrupt(CTRL_C)

    def give(self, request_id: UUID, decision: Decision, by: str) -> bool:
        return False  # its answer is typed

    def withdraw_requests(self, reason: str) -> None:
        self._timer.cancel()
        for request_id in self._requests.open_of(self._command_id):
            self._requests.withdraw(request_id, reason)

    def deny_requests(self, reason: str) -> None:
        for request_id in self._requests.open_of(self._command_id):
            self._requests.withdraw(request_id, reason)

    def finish(self) -> str | None:
        self._timer.cancel()
        self.last_line = self._last_line.read()
        return None

    def _output(self, data: bytes) -> None:
        now = self._loop.time()
        self._watch.wrote(now)
        self._last_line.feed(data)
        for text in self._calls.feed(data):
            self._watch.called(text, now)

    def _look(self) -> None:
        if self.process.exited.done():
            return
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        now = self._loop.time()
        if (line := self._last_line.read()) != self.last_line:
            self.last_line = line
            self.progressed.set()
        match self._watch.poll(now, reads=self._watch.is_silent(now) and self.process.reads_terminal()):
            case Wait() as wait:
                body = IdleBody(text=wait.text, guess=wait.guess)
                self._requests.ask(
                    Asked(
                        request_id=uuid4(),
                        command_id=self._command_id,
                        title=short(wait.text),
                        body=body,
                        digest=digest_of(body),
                        asked_at=datetime.now(UTC),
                    )
                )
            case "withdraw":
                for request_id in self._requests.open_of(self._command_id):
                    self._requests.withdraw(request_id, "The program goes on.")
            case None:
                pass


class ShellDriver:
    """Starts command lines."""

    takes_steers = False
    takes_rules = False
    takes_attachments = False
    takes_answers = False

    @staticmethod
    def takes_forks(arguments: Sequence[str]) -> bool:
        return False

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> ShellRun:
        argv = [*SHELL, script(offer.text), *context.arguments]
        process = Process.in_terminal(argv, str(offer.command_id), context)
        return ShellRun(process, offer.command_id, context.requests)


def script(text: str) -> str:
    """The command line without the byte order mark and the carriage returns that a file of Windows has; bash would take
    them for parts of words. A carriage return at the end has lost its line feed, as in `$(cat FILE)`."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\r")
