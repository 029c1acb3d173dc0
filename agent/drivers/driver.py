"""What an agent needs to know of a coding CLI: how a command is run, shown, and interrupted."""

from __future__ import annotations

import asyncio
from typing import Protocol

from onsembl.agent.process.program import Process, Surroundings
from onsembl.protocol.limits import CommandLimits, LimitName
from onsembl.protocol.usage import Usage


class Run(Protocol):
    """One command that runs."""

    process: Process
    progressed: asyncio.Event
    """Set whenever `usage` may have grown."""

    def interrupt(self) -> None:
        """Ask the CLI to stop in its own way."""
        ...

    def finish(self) -> str | None:
        """The process has ended and its output is drained: show the rest. An error that the CLI reported, if any."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What it has used so far, if the CLI says."""
        ...

    @property
    def passed(self) -> LimitName | None:
        """The limit that the CLI itself was told of, and stopped at."""
        ...


class Adapter(Protocol):
    """A kind of agent."""

    def start(self, command_id: str, text: str, surroundings: Surroundings, limits: CommandLimits) -> Run:
        """Run a command. Its limits are for a CLI that keeps to some by itself. Raises OSError when the CLI cannot be
        started."""
        ...
