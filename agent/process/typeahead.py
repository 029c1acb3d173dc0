"""Keys that were typed into a pseudo-terminal and that its program has not read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

MAX_UNREAD_BYTES = 256 * 1024
NEARLY_READ_BYTES = 64 * 1024
"""While at most this much is unread, keys are answered at once."""
READ_TIMEOUT_SECONDS = 2.0
"""A program that reads nothing for this long is not waited for until it reads again."""


class Typeahead:
    """Buffers keys on their way into the terminal at a descriptor, which does not block.

    A page sends more keys only when the last ones are answered, so the answers set the pace: while much is unread they
    are held back. A program that reads slowly thus gets the longest paste whole. Keys for a program that does not read
    are answered after a timeout, and rejected when the buffer is full.
    """

    def __init__(self, pty: int) -> None:
        self._pty = pty
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self._answers: list[Callable[[], None]] = []
        self._read_timeout: asyncio.TimerHandle | None = None
        self._stalled = False

    def add(self, keys: bytes) -> bool:
        """Type these keys after the unread ones; return False when the buffer has no room for them."""
        if len(self._unread) + len(keys) > MAX_UNREAD_BYTES:
            self._answer()
            return False
        self._unread += keys
        self._write()
        return True

    def clear(self) -> None:
        """Drop the unread keys."""
        self._unread.clear()
        self._write()

    def when_read(self, answer: Callable[[], None]) -> None:
        """Call `answer` when the program has read nearly everything, or does not read."""
        self._answers.append(answer)
        if self._stalled or len(self._unread) <= NEARLY_READ_BYTES:
            self._answer()
        elif self._read_timeout is None:
            self._read_timeout = self._loop.call_later(READ_TIMEOUT_SECONDS, self._give_up)

    def close(self) -> None:
        """Drop the unread keys and answer them, because the terminal is closed."""
        self._loop.remove_writer(self._pty)
        self._unread.clear()
        self._answer()

    def _write(self) -> None:
        try:
            written = os.write(self._pty, self._unread) if self._unread else 0
        except BlockingIOError:
            written = 0  # the program has not read the earlier keys
        except OSError:  # the program has ended
            written = len(self._unread)
        if written:
            del self._unread[:written]
            self._stalled = False
            self._stop_waiting()
        if self._unread:
            self._loop.add_writer(self._pty, self._write)
        else:
            self._loop.remove_writer(self._pty)
        if len(self._unread) <= NEARLY_READ_BYTES:
            self._answer()
        elif self._answers and self._read_timeout is None:
            self._read_timeout = self._loop.call_later(READ_TIMEOUT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._stalled = True
        self._answer()

    def _answer(self) -> None:
        self._stop_waiting()
        answers, self._answers = self._answers, []
        for answer in answers:
            answer()

    def _stop_waiting(self) -> None:
        if self._read_timeout is not None:
            self._read_timeout.cancel()
            self._read_timeout = None
