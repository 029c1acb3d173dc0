"""When to ping a silent peer and when to give it up. Times are seconds on any one clock that never goes back."""

from __future__ import annotations

from typing import Literal


class Heartbeat:
    """One deadline, which every received frame extends.

    After `interval` of silence a ping is due. Each ping has `timeout` to be answered by any frame; `misses` in a row
    and the peer is lost.
    """

    def __init__(self, interval: float = 30.0, timeout: float = 10.0, misses: int = 3, *, now: float) -> None:
        self._interval, self._timeout, self._misses = interval, timeout, misses
        self._unanswered = 0
        self.deadline = now + interval
        """When `poll` has something to say next."""

    def received(self, now: float) -> None:
        """A frame of any kind came."""
        self._unanswered = 0
        self.deadline = now + self._interval

    def poll(self, now: float) -> Literal["ping", "lost"] | None:
        """What to do now; None before the deadline."""
        if now < self.deadline:
            return None
        if self._unanswered == self._misses:
            return "lost"
        self._unanswered += 1
        self.deadline = now + self._timeout
        return "ping"
