"""How many failed sign-ins one address or one account may have before it must wait. Pure; times in seconds."""

from __future__ import annotations

from collections import OrderedDict


class Attempts:
    """A bucket for each key: `burst` failures at once, one more every `refill` seconds.

    Memory is bounded: the key that was not seen for longest is forgotten.
    """

    def __init__(self, burst: int = 10, refill: float = 30.0, keys: int = 10_000) -> None:
        self._burst, self._refill, self._keys = burst, refill, keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allowed(self, key: str, now: float) -> bool:
        """Whether the key may try."""
        return self._level(key, now) <= self._burst - 1

    def failed(self, key: str, now: float) -> None:
        """The key tried in vain."""
        self._buckets[key] = (self._level(key, now) + 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)

    def _level(self, key: str, now: float) -> float:
        level, then = self._buckets.get(key, (0.0, now))
        return max(0.0, level - (now - then) / self._refill)
