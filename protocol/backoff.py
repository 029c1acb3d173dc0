"""Delays before a retry: exponential, with full jitter so that many clients do not retry at the same time."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays in seconds, each drawn uniformly between 0 and a bound, which grows by `factor` up to `cap`."""

    def __init__(
        self,
        base: float = 0.5,
        factor: float = 2.0,
        cap: float = 30.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base, self._factor, self._cap = base, factor, cap
        self._uniform = uniform
        self._bound = base

    def next_delay(self) -> float:
        """Return the next delay, and raise the bound."""
        delay = self._uniform(0.0, self._bound)
        self._bound = min(self._bound * self._factor, self._cap)
        return delay

    def reset(self) -> None:
        """Begin at the first bound again, after a success."""
        self._bound = self._base
