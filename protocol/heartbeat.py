"""When to ping a silent peer, and when to give it up. Times are seconds of any one clock that never goes back."""

from __future__ import annotations

from typing import Literal


class Heartbeat:
    """A deadline that every received frame extends.

    After `interval` of silence a ping is due. Any frame within `timeout` answers it; after `misses` unanswered pings
    in a row the peer is lost.
    """

    def __init__(self, interval: float = 30.0, timeout: float = 10.0, misses: int = 3, *, now: float) -> None:
        self._interval, self._timeout, self._misses = interval, timeout, misses
        self._unanswered = 0
        self.deadline = now + interval
        """When to call `poll` next."""

    def received(self, now: float) -> None:
        """Note that a frame of any kind came."""
        self._unanswered = 0
        self.deadline = now + self._interval

    def postpone(self, now: float) -> None:
        """Note that the ping that `poll` asked for could not be sent, because earlier frames are still being sent."""
        self._unanswered -= 1
        self.deadline = now + self._timeout

    def poll(self, now: float) -> Literal["ping", "lost"] | None:
        """The action that is due; None before the deadline."""
        if now < self.deadline:
            return None
        if self._unanswered == self._misses:
            return "lost"
        self._unanswered += 1
        self.deadline = now + self._timeout
        return "ping"
