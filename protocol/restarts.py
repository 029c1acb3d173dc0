"""Decides when a part of a program that has failed starts again, and when to give up. No I/O and no clock."""

from __future__ import annotations

from onsembl.protocol.backoff import Backoff

ATTEMPTS = 10
"""With the default delays, a part that always fails at once is given up after about a minute and a half."""
STABLE_SECONDS = 300.0
"""A run of this length has worked, in seconds. It is longer than a start that fails by a timeout."""


class RestartPolicy:
    """Restarts a part after a delay that grows with each failure in a row, and gives up after `attempts` of them.

    A run of at least `stable` seconds clears the failures before it. A failure whose cause a restart of the whole
    program cannot cure, such as a full disk, does not count: the part is tried until the cause is gone.
    """

    def __init__(
        self, *, attempts: int = ATTEMPTS, stable: float = STABLE_SECONDS, backoff: Backoff | None = None
    ) -> None:
        self._attempts = attempts
        self._stable = stable
        self._backoff = backoff or Backoff(base=1.0, cap=30.0)
        self._failures = 0
        self._started: float | None = None

    def started(self, now: float) -> None:
        """Note that the part starts at `now`, in seconds by any clock that is never set back."""
        assert self._started is None, "it runs already"
        self._started = now

    def failed(self, now: float, *, counts: bool = True) -> float | None:
        """Note that the part has failed at `now`; return the seconds before its next start, None to give up."""
        assert self._started is not None, "it does not run"
        if now - self._started >= self._stable:
            self._failures = 0
            self._backoff.reset()
        self._started = None
        if counts:
            self._failures += 1
            if self._failures >= self._attempts:
                return None
        return self._backoff.next_delay()
