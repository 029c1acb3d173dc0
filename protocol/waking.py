"""When workers are to be woken: jobs wait, and fewer workers are alive than are wanted. No I/O and no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onsembl.protocol.backoff import Backoff

START_SECONDS = 30.0
"""How long a worker that was woken may take to start, in seconds."""
JOBS_PER_WORKER = 200
"""For how many jobs one worker is wanted, unless the settings say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeTarget:
    """Where a worker is asked for: a POST to `url`, with the secret as bearer token if there is one. A proxy that
    starts a stopped machine on a request may answer it, or `onsembl worker --wake-port`."""

    url: str
    secret: str | None = None


def wanted_workers(jobs: int, jobs_per_worker: int) -> int:
    """How many workers are wanted for this many jobs that wait or run."""
    return math.ceil(jobs / jobs_per_worker)


class Waker:
    """Decides when to ask for a worker. Times are in seconds, by a monotonic clock.

    One request is made at a time. After one that was taken, the next one waits until another worker is alive, or the
    time for its start is over; after one that failed, it waits longer each time.
    """

    def __init__(self, jobs_per_worker: int) -> None:
        self._jobs_per_worker = jobs_per_worker
        self._backoff = Backoff(cap=60.0)
        self._not_before = -math.inf
        self._alive_then = 0
        """How many workers were alive when one was last asked for."""

    def look(self, now: float, *, jobs: int, waiting: int, alive: int) -> bool:
        """Whether to ask for a worker at `now`: of the `jobs` so many are `waiting`, and so many workers are `alive`.

        While none waits, one more worker would find nothing to do and exit.
        """
        if waiting == 0 or alive >= wanted_workers(jobs, self._jobs_per_worker):
            self._not_before = -math.inf
            self._backoff.reset()
            return False
        if now < self._not_before and alive <= self._alive_then:
            return False
        self._alive_then = alive
        return True

    def asked(self, now: float, *, taken: bool) -> None:
        """A worker was asked for, with this result."""
        if taken:
            self._backoff.reset()
            self._not_before = now + START_SECONDS
        else:
            self._not_before = now + self._backoff.next_delay()
