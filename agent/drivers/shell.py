"""Kind `shell`: each command is a command line for bash, run in a pseudo-terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from onsembl.agent.drivers.attached_files import AttachedFile
from onsembl.agent.process.process import Process, ProcessContext
from onsembl.protocol.attention_messages import Decision
from onsembl.protocol.messages import Offer

SHELL = ("/bin/bash", "-c", "--")  # after `--`, a command line that begins with a dash is no option
CTRL_C = b"\x03"


class ShellRun:
    """A running command line."""

    usage = None
    turn = None
    completed = False
    exceeded = None
    takes_steers = False
    waits = False

    def __init__(self, process: Process) -> None:
        self.process = process
        self.progressed = asyncio.Event()
        self.on_steered: Callable[[UUID, int], None] = lambda _id, _step: None

    def interrupt(self) -> None:
        self.process.press_interrupt(CTRL_C)

    def steer(self, steer_id: UUID, text: str) -> None:
        raise NotImplementedError

    def give(self, request_id: UUID, decision: Decision, by: str) -> bool:
        raise NotImplementedError

    def withdraw_requests(self, reason: str) -> None:
        pass

    def deny_requests(self, reason: str) -> None:
        pass

    def finish(self) -> str | None:
        return None


class ShellDriver:
    """Starts command lines."""

    takes_steers = False
    takes_rules = False
    takes_attachments = False
    takes_answers = False
    takes_forks = False

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> ShellRun:
        argv = [*SHELL, script(offer.text), *context.arguments]
        return ShellRun(Process.in_terminal(argv, str(offer.command_id), context))


def script(text: str) -> str:
    """The command line without the byte order mark and the carriage returns that a file of Windows has; bash would take
    them for parts of words. A carriage return at the end has lost its line feed, as in `$(cat FILE)`."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\r")
