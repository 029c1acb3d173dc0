"""When workers are to be woken: jobs wait, and fewer workers are alive than are wanted. No I/O and no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onsembl.protocol.backoff import Backoff

START_SECONDS = 30.0
"""How long a worker that was woken may take to start, in seconds, and as long a request for one may be unanswered: a
proxy that starts a machine answers when the machine runs."""
JOBS_PER_WORKER = 200
"""For how many jobs one worker is wanted, unless the settings say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeTarget:
    """Where a worker is asked for: a POST to `url`, with the secret as bearer token if there is one. A proxy that
    starts a stopped machine on a request may answer it, or `onsembl worker --wake-port`."""

    url: str
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do, and how many do it."""

    jobs: int
    """The jobs that run, or that a worker could start now."""
    oldest: int | None
    """The id of the oldest job among them that waits; None when none does."""
    workers: int
    """The workers that are alive."""


def wanted_workers(jobs: int, jobs_per_worker: int) -> int:
    """How many workers are wanted for this many jobs that wait or run."""
    return math.ceil(jobs / jobs_per_worker)


def too_few(load: Load, jobs_per_worker: int) -> bool:
    """Whether jobs wait, and fewer workers are alive than are wanted.

    While no job waits, one more worker would find nothing to do and exit.
    """
    return load.oldest is not None and load.workers < wanted_workers(load.jobs, jobs_per_worker)


class Waker:
    """Decides when to ask for a worker. Times are in seconds, by a monotonic clock.

    One request is made at a time. After one that was taken, the next one waits until the worker has come, or the time
    for its start is over; after one that failed, it waits longer each time.
    """

    def __init__(self, jobs_per_worker: int) -> None:
        self._jobs_per_worker = jobs_per_worker
        self._backoff = Backoff(cap=60.0)
        self._not_before = -math.inf
        self._then = Load(0, None, 0)
        """The load when a worker was last asked for."""

    def look(self, now: float, load: Load) -> bool:
        """Whether to ask for a worker at `now`."""
        if not too_few(load, self._jobs_per_worker):
            self._not_before = -math.inf
            self._backoff.reset()
            return False
        if now < self._not_before and not self._has_come(load):
            return False
        self._then = load
        return True

    def _has_come(self, load: Load) -> bool:
        """Whether a worker has come since one was asked for; it may have gone again, after the job that waited then."""
        if load.workers > self._then.workers:
            return True
        took_a_job = self._then.oldest is not None and load.oldest is not None and load.oldest > self._then.oldest
        return load.workers == 0 and took_a_job

    def asked(self, now: float, *, taken: bool) -> None:
        """A worker was asked for, with this result."""
        if taken:
            self._backoff.reset()
            self._not_before = now + START_SECONDS
        else:
            self._not_before = now + self._backoff.next_delay()
