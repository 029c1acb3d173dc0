"""What was typed into a pseudo-terminal and its program has not read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

MOST_BYTES = 256 * 1024
NEARLY_READ_BYTES = 64 * 1024
"""With so little unread, the next keys may come."""
PATIENCE_SECONDS = 2.0
"""A program that reads nothing for so long is not waited for, until it reads again."""


class TypedAhead:
    """Keys on their way into the terminal at a descriptor, which does not block.

    Whoever types waits for answers before typing more, so that answers set the pace: while much is unread they wait for
    the program. A program that reads slowly gets the longest paste whole; from one that does not read nobody waits for
    an answer, and what is too much is refused.
    """

    def __init__(self, control: int) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self._answers: list[Callable[[], None]] = []
        self._impatient: asyncio.TimerHandle | None = None
        self._stalled = False

    def add(self, keys: bytes) -> bool:
        """Type these after what is unread; False when that would be too much."""
        if len(self._unread) + len(keys) > MOST_BYTES:
            self._answer()
            return False
        self._unread += keys
        self._write()
        return True

    def clear(self) -> None:
        """Forget what is unread."""
        self._unread.clear()
        self._write()

    def once_read(self, answer: Callable[[], None]) -> None:
        """Call `answer` when the program has read nearly everything, or does not read."""
        self._answers.append(answer)
        if self._stalled or len(self._unread) <= NEARLY_READ_BYTES:
            self._answer()
        elif self._impatient is None:
            self._impatient = self._loop.call_later(PATIENCE_SECONDS, self._give_up)

    def close(self) -> None:
        """The terminal is gone."""
        self._loop.remove_writer(self._control)
        self._unread.clear()
        self._answer()

    def _write(self) -> None:
        try:
            written = os.write(self._control, self._unread) if self._unread else 0
        except BlockingIOError:
            written = 0  # the program has not read what came before
        except OSError:  # it is gone
            written = len(self._unread)
        if written:
            del self._unread[:written]
            self._stalled = False
            self._stop_waiting()
        if self._unread:
            self._loop.add_writer(self._control, self._write)
        else:
            self._loop.remove_writer(self._control)
        if len(self._unread) <= NEARLY_READ_BYTES:
            self._answer()
        elif self._answers and self._impatient is None:
            self._impatient = self._loop.call_later(PATIENCE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._stalled = True
        self._answer()

    def _answer(self) -> None:
        self._stop_waiting()
        answers, self._answers = self._answers, []
        for answer in answers:
            answer()

    def _stop_waiting(self) -> None:
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None
