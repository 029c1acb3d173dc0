"""What an API process without a worker does, so that nothing needs a worker to be alive.

It recovers from the death of workers and of other API processes, sends the commands of schedules that are due, and
queues periodic jobs. Several processes may do so beside each other: the database allows one repair at a time, and one
run or job for each due time. With an address to ask, one of them at a time wakes workers when jobs wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import httpx
from procrastinate.periodic import PeriodicDeferrer
from psycopg_pool import AsyncConnectionPool

from onsembl.fleet.listener import Listener
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.waking import START_SECONDS, Load, Waker, WakeTarget, too_few
from onsembl.sql import jobs
from onsembl.sql.cancellation import run_together
from onsembl.sql.database import Pool
from onsembl.sql.leases import under_lease
from onsembl.sql.process_database import ProcessDatabase
from onsembl.tasks.app import new_app
from onsembl.tasks.recovery import Sweeper
from onsembl.tasks.schedules import fire_due
from onsembl.tasks.worker import DATABASE_ERRORS

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How long the next look at the queue waits at most, in seconds; a new job makes it look at once."""
SHORT_LOOK_SECONDS = 1.0
"""The same while too few workers are alive, in the process that asks for them."""
BURST_SECONDS = 0.2
"""Jobs that are queued within this time, in seconds, are seen by one look."""
_NEW_JOBS = "procrastinate_any_queue_v1"
"""The channel on which Procrastinate tells of new jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbySettings:
    """Processes that were silent for `dead_after` (workers) and `instance_dead_after` seconds count as dead. One worker
    is wanted for `jobs_per_worker` jobs."""

    dead_after: float
    instance_dead_after: float
    jobs_per_worker: int
    wake: WakeTarget | None = None


async def stand_by(database: ProcessDatabase, listener: Listener, settings: StandbySettings) -> None:
    """Do what must happen without a worker, until cancelled."""
    sweeper = Sweeper(database.work, settings.dead_after, settings.instance_dead_after)
    tasks: list[Coroutine[Any, Any, None]] = [
        _keep_up(sweeper, database.work),
        _queue_periodic_jobs(database.queue, listener),
    ]
    if settings.wake is not None:
        tasks.append(_wake_workers(database, listener, settings, settings.wake))
    await run_together(*tasks)


async def _keep_up(sweeper: Sweeper, pool: Pool) -> NoReturn:
    """Sweep, and send the commands of schedules that are due."""
    while True:
        await sweeper.try_sweep()
        try:
            await fire_due(pool)
        except DATABASE_ERRORS as error:
            logger.warning("Schedules could not run: %s", error, extra={"action": "schedules_failed"})
        await asyncio.sleep(sweeper.interval)


async def _queue_periodic_jobs(queue: Pool, listener: Listener) -> NoReturn:
    backoff = Backoff()
    while True:
        app = new_app(listener, schedules=False)  # a job of every minute would wake a worker for nothing
        await app.open_async(cast("AsyncConnectionPool", queue))
        try:
            await PeriodicDeferrer(app.periodic_registry).worker()
        except DATABASE_ERRORS as error:
            logger.warning("Periodic jobs could not be queued: %s", error, extra={"action": "periodic_failed"})
        await asyncio.sleep(backoff.next_delay())


async def _wake_workers(
    database: ProcessDatabase, listener: Listener, settings: StandbySettings, target: WakeTarget
) -> None:
    changed = asyncio.Event()

    async def on_notify(_channel: str, _payload: str) -> None:
        changed.set()

    async def on_listening() -> None:
        changed.set()

    await run_together(
        listener.listen([_NEW_JOBS], on_notify, on_listening),
        _WorkersWanted(database, settings, target, changed).wake(),
    )


class _WorkersWanted:
    """Asks for workers while too few are alive. Looks at the queue when `changed` is set, and from time to time."""

    def __init__(
        self, database: ProcessDatabase, settings: StandbySettings, target: WakeTarget, changed: asyncio.Event
    ) -> None:
        self._database = database
        self._settings = settings
        self._target = target
        self._changed = changed

    async def wake(self) -> NoReturn:
        """Ask for workers until cancelled; of several processes, one asks at a time."""
        while True:
            self._changed.clear()
            try:
                if self._too_few(await self._load()):
                    await under_lease(self._database.queue, "wake", self._ask_while_too_few)
            except DATABASE_ERRORS as error:
                logger.warning("The queue cannot be read: %s", error, extra={"action": "wake_failed"})
            await self._next_look(LOOK_SECONDS)

    async def _ask_while_too_few(self) -> None:
        waker = Waker(self._settings.jobs_per_worker)
        async with httpx.AsyncClient(timeout=START_SECONDS) as client:
            while True:
                self._changed.clear()
                load = await self._load()
                if not self._too_few(load):
                    return
                if waker.look(time.monotonic(), load):
                    taken = await _ask(client, self._target)
                    waker.asked(time.monotonic(), taken=taken)
                await self._next_look(SHORT_LOOK_SECONDS)

    def _too_few(self, load: Load) -> bool:
        return too_few(load, self._settings.jobs_per_worker)

    async def _load(self) -> Load:
        async with self._database.statements.connection() as conn:
            return await jobs.load(conn, self._settings.dead_after)

    async def _next_look(self, seconds: float) -> None:
        await asyncio.sleep(BURST_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


async def _ask(client: httpx.AsyncClient, target: WakeTarget) -> bool:
    """Ask for a worker; return whether the request was taken."""
    headers = {"authorization": f"Bearer {target.secret}"} if target.secret is not None else {}
    try:
        answer = await client.post(target.url, headers=headers)
    except httpx.HTTPError as error:
        problem = str(error) or type(error).__name__
    else:
        if answer.is_success:
            logger.info("Asked for a worker", extra={"action": "worker_woken"})
            return True
        problem = f"status {answer.status_code}"
    logger.warning("A worker could not be woken: %s", problem, extra={"action": "wake_failed"})
    return False
