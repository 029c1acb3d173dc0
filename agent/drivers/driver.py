"""The interface of a driver, which runs, shows and interrupts the commands of one kind of coding CLI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from onsembl.agent.drivers.attached_files import AttachedFile
from onsembl.agent.process.process import Process, ProcessContext
from onsembl.protocol.attention_messages import Decision
from onsembl.protocol.limits import LimitName
from onsembl.protocol.messages import Offer
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.usage import Usage
from onsembl.protocol.work_clock import WorkClock


class Run(Protocol):
    """A running command."""

    process: Process
    progressed: asyncio.Event
    """Set whenever `usage` may have grown, or `clock` or `last_line` may have changed."""
    last_line: str
    """The last line of the output, looked up now and then and at the end; "" if the turn has steps, which say more."""
    clock: WorkClock
    """The working time of the command, by the clock of the event loop."""
    on_steered: Callable[[UUID, int], None]
    """Called with a text's id and the number of its step when the CLI has taken the text."""

    def interrupt(self) -> None:
        """Ask the CLI to stop in its own way."""
        ...

    @property
    def steer(self) -> Callable[[UUID, str], None] | None:
        """Gives the CLI a text, by its id, for the running turn; None when the CLI takes none now."""
        ...

    def give(self, request_id: UUID, decision: Decision, by: str) -> bool:
        """Give the CLI the decision on a request, which is not open any more; return whether it still runs."""
        ...

    def withdraw_requests(self, reason: str) -> None:
        """Close all open requests: the CLI gets no decision on them any more."""
        ...

    def deny_requests(self, reason: str) -> None:
        """Deny all open requests, because nobody can be asked any more."""
        ...

    def finish(self) -> str | None:
        """Show the rest of the output, when the process has ended and its output is drained.

        Return the error that the CLI has reported, if any.
        """
        ...

    @property
    def usage(self) -> Usage | None:
        """The usage so far, if the CLI reports it."""
        ...

    @property
    def turn(self) -> TurnReport | None:
        """What the CLI has said of the turn and its conversation; None if the CLI has no conversations."""
        ...

    @property
    def completed(self) -> bool:
        """Whether the CLI has reported that the work is complete; then its exit status does not count."""
        ...

    @property
    def exceeded(self) -> LimitName | None:
        """The limit at which the CLI itself has stopped."""
        ...


class Driver(Protocol):
    """Starts the commands of one kind of agent."""

    takes_steers: bool
    """Whether a text can be given to a running command."""
    takes_rules: bool
    """Whether the CLI is held to the rules of a turn."""
    takes_attachments: bool
    """Whether files can go with a prompt."""
    takes_answers: bool
    """Whether the CLI's requests are asked of a person."""

    @staticmethod
    def takes_forks(arguments: Sequence[str]) -> bool:
        """Whether a conversation can begin as a copy of another one, in the CLI that runs with these arguments."""
        ...

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> Run:
        """Run a command, with the files of its prompt. Raises OSError when it cannot start."""
        ...
