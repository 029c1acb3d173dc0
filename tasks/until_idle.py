"""Ends a worker that runs until its queue is empty.

The worker does not wait for offline agents, which may never return: it hands over the jobs of their commands to the
next worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from procrastinate import JobContext
from procrastinate.worker import Worker

from onsembl.sql import jobs
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import Pool

LOOK_SECONDS = 5.0
"""How often it is asked whether the running jobs can continue, in seconds."""
IDLE_LOOK_SECONDS = 0.2
"""How often a worker without a running job looks whether one is left, in seconds."""
FETCH_SECONDS = 0.5
"""How often the worker looks for a job of which no notification tells it, in seconds: one whose agent had another."""


class RunningJobs:
    """One worker's running jobs, and whether they can continue. An agent offline for `away_after` seconds is not
    awaited."""

    def __init__(self, statements: Pool, concurrency: int, away_after: float, end_seconds: float) -> None:
        self._statements = statements
        self._concurrency = concurrency
        self._away_after = away_after
        self._end_seconds = end_seconds
        self._running: set[int] = set()
        self._idle = asyncio.Event()
        """Set while no job runs."""
        self._idle.set()

    async def record(self, call_next: Callable[[], Awaitable[object]], context: JobContext, _worker: Worker) -> object:
        """Worker middleware: record which jobs run."""
        job_id = context.job.id
        assert job_id is not None, "a running job has an id"
        self._running.add(job_id)
        self._idle.clear()
        try:
            return await call_next()
        finally:
            self._running.discard(job_id)
            if not self._running:
                self._idle.set()

    async def run_until_idle(self, worker: Worker) -> bool:
        """Run the worker until no job is left that can continue; return whether no such job has arrived meanwhile."""
        working, over = asyncio.create_task(worker.run()), asyncio.create_task(self._until_over(worker))
        try:
            await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_until_done([working, over], again=self._end_seconds)
        for task in (working, over):
            if not task.cancelled():
                task.result()
        async with self._statements.connection() as conn:
            return not await jobs.due(conn, self._away_after)

    async def _until_over(self, worker: Worker) -> None:
        """Wait until no job is left, or until those that run here wait for offline agents and no other can start.

        The worker is not restarted for this: each run hands over its jobs and has a row of its own, and between two
        runs a process that wakes workers would see one too few.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_SECONDS, self._away_after)):
                    await self._idle.wait()
            await asyncio.sleep(IDLE_LOOK_SECONDS)  # the worker writes down the end of a job, or fetches the next
            async with self._statements.connection() as conn:
                if self._running:
                    if not await jobs.stuck(conn, self._running, self._away_after):
                        continue
                    over = len(self._running) == self._concurrency or not await jobs.due(conn, self._away_after)
                else:
                    over = (
                        worker.worker_id is not None
                        and not await jobs.held(conn, worker.worker_id)
                        and not await jobs.due(conn, self._away_after)
                    )
                if over:
                    return
