"""When a worker that is to end by itself has nothing left to do.

It waits for no agent that is away, which may never come back: the job of what such a one runs is handed over, and left
to whoever works next.
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


class Idling:
    """One worker's jobs, and whether they can go on. An agent is away after so many seconds."""

    def __init__(self, statements: Pool, concurrency: int, away_after: float, end_seconds: float) -> None:
        self._statements = statements
        self._concurrency = concurrency
        self._away_after = away_after
        self._end_seconds = end_seconds
        self._running: set[int] = set()

    async def note(self, call_next: Callable[[], Awaitable[object]], context: JobContext, _worker: Worker) -> object:
        """Around every job."""
        job_id = context.job.id
        assert job_id is not None, "a job that runs is in the table"
        self._running.add(job_id)
        try:
            return await call_next()
        finally:
            self._running.discard(job_id)

    async def run(self, work: Coroutine[Any, Any, None]) -> bool:
        """Work until there is no job, or only such as cannot go on; whether nothing that can has come meanwhile."""
        working, stuck = asyncio.create_task(work), asyncio.create_task(self._stuck())
        try:
            await asyncio.wait({working, stuck}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_until_done([working, stuck], again=self._end_seconds)
        for task in (working, stuck):
            if not task.cancelled():
                task.result()
        # Each line has moved on while its head ran, which Procrastinate does not look for any more.
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
