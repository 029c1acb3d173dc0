"""Ends a worker that runs until its queue is empty.

The worker does not wait for offline agents, which may never return: it hands over the jobs of their commands to the
next worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from procrastinate import JobContext
from procrastinate.worker import Worker

from onsembl.sql import jobs
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import Pool

LOOK_SECONDS = 5.0


class RunningJobs:
    """One worker's running jobs, and whether they can continue. An agent offline for `away_after` seconds is not
    awaited."""

    def __init__(self, statements: Pool, concurrency: int, away_after: float, end_seconds: float) -> None:
        self._statements = statements
        self._concurrency = concurrency
        self._away_after = away_after
        self._end_seconds = end_seconds
        self._running: set[int] = set()

    async def record(self, call_next: Callable[[], Awaitable[object]], context: JobContext, _worker: Worker) -> object:
        """Worker middleware: record which jobs run."""
        job_id = context.job.id
        assert job_id is not None, "a running job has an id"
        self._running.add(job_id)
        try:
            return await call_next()
        finally:
            self._running.discard(job_id)

    async def run_until_idle(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work` until no job is left that can continue; return whether no such job has arrived meanwhile."""
        working, stuck = asyncio.create_task(work), asyncio.create_task(self._stuck())
        try:
            await asyncio.wait({working, stuck}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_until_done([working, stuck], again=self._end_seconds)
        for task in (working, stuck):
            if not task.cancelled():
                task.result()
        # The end of a command promotes the next command of its queue, whose job Procrastinate no longer fetches.
        async with self._statements.connection() as conn:
            return not await jobs.due(conn, self._away_after)

    async def _stuck(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._away_after))
            if not self._running:
                continue
            async with self._statements.connection() as conn:
                if not await jobs.stuck(conn, self._running, self._away_after):
                    continue
                if len(self._running) == self._concurrency or not await jobs.due(conn, self._away_after):
                    return
