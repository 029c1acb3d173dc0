"""A driver's run whose own faults harm only its command: each call into the driver is guarded here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from onsembl.agent.drivers.driver import Run
from onsembl.protocol.attention_messages import Decision
from onsembl.protocol.limits import LimitName
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.usage import Usage

logger = logging.getLogger(__name__)

T = TypeVar("T")


def in_words(error: Exception) -> str:
    """An unforeseen error as the reason of a command's end."""
    return f"Internal error of the agent: {type(error).__name__}: {error}"


class GuardedRun:
    """A Run that raises nothing. The first error of the driver, or of the process, is `fault`: the command has failed
    and should be stopped."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._usage: Usage | None = None
        self.process = run.process
        self.progressed: asyncio.Event = run.progressed
        self.clock = run.clock
        self.fault: Exception | None = None
        run.process.failed.add_done_callback(lambda failed: self._failed(failed.result()))

    def interrupt(self) -> None:
        """Ask the CLI to stop in its own way."""
        self._guarded(self._run.interrupt, None)

    @property
    def steer(self) -> Callable[[UUID, str], None] | None:
        """Gives the CLI a text, by its id, for the running turn; None when the CLI takes none now."""
        steer = self._guarded(lambda: self._run.steer, None)
        if steer is None:
            return None
        return lambda steer_id, text: self._guarded(lambda: steer(steer_id, text), None)

    def on_steered(self, callback: Callable[[UUID, int], None]) -> None:
        """Call back with a text's id and the number of its step when the CLI has taken the text."""
        self._run.on_steered = callback

    def give(self, request_id: UUID, decision: Decision, by: str) -> bool:
        """Give the CLI the decision on a request; return whether that worked."""
        return self._guarded(lambda: self._run.give(request_id, decision, by), False)

    def withdraw_requests(self, reason: str) -> None:
        """Close all open requests."""
        self._guarded(lambda: self._run.withdraw_requests(reason), None)

    def deny_requests(self, reason: str) -> None:
        """Deny all open requests."""
        self._guarded(lambda: self._run.deny_requests(reason), None)

    def finish(self) -> str | None:
        """Show the rest of the output; return the error that the CLI has reported, if any."""
        return self._guarded(self._run.finish, None)

    @property
    def usage(self) -> Usage | None:
        """The usage so far; after an error the last one that is known."""
        self._usage = self._guarded(lambda: self._run.usage, self._usage)
        return self._usage

    @property
    def last_line(self) -> str:
        """The last line of the output; "" if the turn has steps."""
        return self._run.last_line

    @property
    def turn(self) -> TurnReport | None:
        """What the CLI has said of the turn."""
        return self._guarded(lambda: self._run.turn, None)

    @property
    def completed(self) -> bool:
        """Whether the CLI has reported that the work is complete."""
        return self._guarded(lambda: self._run.completed, False)

    @property
    def exceeded(self) -> LimitName | None:
        """The limit at which the CLI itself has stopped."""
        return self._guarded(lambda: self._run.exceeded, None)

    def _guarded(self, call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except Exception as error:
            logger.exception("The driver of a command has failed", extra={"action": "driver_failed"})
            self._failed(error)
            return otherwise

    def _failed(self, error: Exception) -> None:
        self.fault = self.fault or error
        self.progressed.set()
