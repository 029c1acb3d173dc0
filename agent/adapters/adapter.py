"""What an agent needs to know of a coding CLI: how a command is run, shown, and interrupted."""

from __future__ import annotations

from typing import Protocol

from onsembl.agent.process import Process, Surroundings
from onsembl.protocol.messages import Usage


class Run(Protocol):
    """One command that runs."""

    process: Process

    def interrupt(self) -> None:
        """Ask the CLI to stop in its own way."""
        ...

    def finish(self) -> str | None:
        """The process has ended and its output is drained: show the rest. An error that the CLI reported, if any."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What it used, if the CLI says."""
        ...


class Adapter(Protocol):
    """A kind of agent."""

    def start(self, command_id: str, text: str, surroundings: Surroundings) -> Run:
        """Run a command. Raises OSError when the CLI cannot be started."""
        ...
