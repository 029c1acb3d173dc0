"""Which processes are dead, by the numbers of their heartbeats. No wall clock decides.

Each heartbeat gives its process another number. A process is dead when an observer has seen the same number in punctual
looks for long enough, by its own monotonic clock. After a late look the observer starts anew: it was stopped itself, or
the database was, and then the processes may not have been able to write their heartbeats either.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

LOOKS_IN_TIME = 4
"""How many looks an observer takes in the time of silence that makes a process dead. Every second one may be late."""


class Liveness(Generic[Key]):
    """One observer of heartbeats; times are seconds of a clock that never goes back.

    A process is dead after `dead_after` seconds with the same number. A look is punctual if it ends within half of that
    time after the look before has begun, so that death takes at least three looks.
    """

    def __init__(self, dead_after: float) -> None:
        self._dead_after = dead_after
        self._last_began: float | None = None
        self._seen: dict[Key, tuple[str, float]] = {}
        """The last number of each process, and the end of the look that saw it first."""

    @property
    def interval(self) -> float:
        """The seconds between two looks."""
        return self._dead_after / LOOKS_IN_TIME

    def look(self, began: float, ended: float, numbers: Mapping[Key, str]) -> dict[Key, str]:
        """Take note of the numbers that were read between `began` and `ended`; return the dead with their numbers.

        The caller must act on a dead process only if its number is still the same.
        """
        if self._last_began is None or ended - self._last_began > self._dead_after / 2:
            self._seen = {}
        self._last_began = began
        before = self._seen
        self._seen = {
            key: seen if (seen := before.get(key)) is not None and seen[0] == number else (number, ended)
            for key, number in numbers.items()
        }
        return {key: number for key, (number, since) in self._seen.items() if began - since >= self._dead_after}
