"""Kind `shell`: a command is a line for the shell, in a pseudo-terminal."""

from __future__ import annotations

import asyncio

from onsembl.agent.process.program import Process, Surroundings
from onsembl.protocol.limits import CommandLimits

SHELL = ("/bin/bash", "-c")
CTRL_C = b"\x03"


class ShellRun:
    """A command line that runs."""

    usage = None
    passed = None

    def __init__(self, process: Process) -> None:
        self.process = process
        self.progressed = asyncio.Event()

    def interrupt(self) -> None:
        self.process.press(CTRL_C)

    def finish(self) -> str | None:
        return None


class ShellAdapter:
    """Runs command lines."""

    def start(self, command_id: str, text: str, surroundings: Surroundings, limits: CommandLimits) -> ShellRun:
        argv = [*SHELL, text, *surroundings.arguments]
        return ShellRun(Process.in_terminal(argv, command_id, surroundings))
