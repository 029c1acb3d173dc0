"""When a program in a terminal waits for a person: it has called for one, or is silent and reads. No I/O.

Times are of any one clock, in seconds. A program that calls again and again opens few requests; the last call of those
that came too soon is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onsembl.agent.process.terminal_calls import BELL

SILENT_SECONDS = 10.0
"""How long a program that reads its terminal is silent before it counts as waiting."""
GO_ON_SECONDS = 2.0
"""Output within this time of a call belongs to the call: a question is often written after the bell."""
BETWEEN_SECONDS = 10.0
"""The least time between two requests of a program."""
RANG = "The program rings the bell."
SILENT = "The program is silent and reads its terminal."


@dataclass(frozen=True, slots=True)
class Wait:
    """A request to open. `guess` is true when only the program's silence says that it waits."""

    text: str
    guess: bool = False


class IdleWatch:
    """`called`, `wrote` and `typed` are what happens; `poll` says what to do now."""

    def __init__(self, now: float) -> None:
        self._wrote = self._typed = now
        self._opened: float | None = None
        """When the open request was opened."""
        self._last = now - BETWEEN_SECONDS
        self._call: tuple[float, str] | None = None
        """A call that has no request yet."""
        self._over = False

    def called(self, text: str, now: float) -> None:
        """The program calls for a person, or rings the bell."""
        if text == BELL and now - self._typed < GO_ON_SECONDS:
            return  # an answer to a key: a bell of a line editor
        if self._opened is None or self._over:  # else it is known that the program waits
            self._call = (now, text)

    def wrote(self, now: float) -> None:
        """The program writes."""
        self._wrote = now
        if self._opened is not None and now - self._opened > GO_ON_SECONDS:
            self._over = True
        if self._call is not None and now - self._call[0] > GO_ON_SECONDS:
            self._call = None  # it has gone on before anybody could be asked

    def typed(self, now: float) -> None:
        """A person types: that is the answer."""
        self._typed = now
        self._over = self._opened is not None
        self._call = None

    def is_silent(self, now: float) -> bool:
        """Whether it is time to look if the program reads its terminal."""
        silent = now - max(self._wrote, self._typed) >= SILENT_SECONDS
        return silent and self._opened is None and self._call is None

    def poll(self, now: float, *, reads: bool) -> Wait | Literal["withdraw"] | None:
        """What to do now; `reads` says whether the program reads its terminal."""
        if self._over:
            self._over, self._opened = False, None
            return "withdraw"
        if self._opened is not None or now - self._last < BETWEEN_SECONDS:
            return None
        if self._call is not None:
            (_, text), self._call = self._call, None
            wait = Wait(text or RANG)
        elif reads and self.is_silent(now):
            wait = Wait(SILENT, guess=True)
        else:
            return None
        self._opened = self._last = now
        return wait
