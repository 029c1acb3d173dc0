"""A worker: it takes jobs, keeps no state, and may be started and stopped at any time.

It survives an outage of its database: it starts again once Postgres is back, and its jobs are recovered like those of
any dead worker.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import cast

import psycopg
from procrastinate.exceptions import ProcrastinateException
from procrastinate.worker import FETCH_JOB_POLLING_INTERVAL, Worker
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from onsembl.fleet.audit_seal import seal_for_ever
from onsembl.fleet.instance_messages import Dispatcher, LocalHub
from onsembl.fleet.listener import Listener
from onsembl.protocol.backoff import Backoff
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import Pool
from onsembl.sql.process_database import ProcessDatabase
from onsembl.tasks.app import new_app
from onsembl.tasks.context import ACCEPT_SECONDS, ARCHIVE_DAYS, JobServices
from onsembl.tasks.metrics import WorkerMetrics
from onsembl.tasks.recovery import Sweeper
from onsembl.tasks.run_command import store_errors
from onsembl.tasks.search_index import index_for_ever
from onsembl.tasks.until_idle import FETCH_SECONDS, RunningJobs
from onsembl.tasks.watch import CommandWatch

logger = logging.getLogger(__name__)

INSTANCE_DEAD_SECONDS = 30.0
"""After how many seconds without a heartbeat an API instance is dead, unless the settings say otherwise."""
CONNECTIONS = 12
"""How many connections to the database a worker uses at most, unless the settings say otherwise."""
WORKER_END_SECONDS = 10.0
"""How long a cancelled worker takes at most to hand over its jobs, in seconds, if its database responds."""
NEVER_SECONDS = 100 * 365 * 86400.0
"""Procrastinate judges a worker's death by the database's clock, which can jump; the sweep judges instead."""
DATABASE_ERRORS = (psycopg.Error, PoolTimeout, ProcrastinateException)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The settings of a worker; times in seconds.

    `concurrency` limits the commands in progress, whose jobs only wait. Other workers consider a worker dead that is
    silent for `dead_after`, and an API instance that is silent for `instance_dead_after`. A worker that stops hands
    over its jobs after `drain`. The archive is kept for `archive_days`.
    """

    concurrency: int = 1000
    dead_after: float = 12.0
    instance_dead_after: float = INSTANCE_DEAD_SECONDS
    drain: float = 0.5
    accept: float = ACCEPT_SECONDS
    archive_days: int = ARCHIVE_DAYS

    @property
    def heartbeat(self) -> float:
        """The interval of the worker's heartbeats: some of them may be late."""
        return self.dead_after / 4


@dataclass(slots=True)
class _Registered:
    """The present run of the worker; each run has a row of its own among the workers."""

    worker: Worker | None = None

    @property
    def id(self) -> int | None:
        return self.worker.worker_id if self.worker is not None else None


async def run_worker(
    url: str,
    settings: WorkerSettings,
    metrics: WorkerMetrics,
    *,
    connections: int = CONNECTIONS,
    pooler_url: str | None = None,
    until_idle: bool = False,
) -> None:
    """Run jobs in a process of its own, as `run_jobs` does, with at most this number of connections. The statements go
    to `pooler_url`, if there is one."""
    listener = Listener(url)
    async with ProcessDatabase(url, connections, pooler_url=pooler_url, api=False) as database:
        metrics.pools.watch(database)
        listening = asyncio.create_task(listener.run())
        try:
            await run_jobs(database, listener, settings, metrics, until_idle=until_idle)
        finally:
            await cancel_until_done([listening])


async def run_jobs(
    database: ProcessDatabase,
    listener: Listener,
    settings: WorkerSettings,
    metrics: WorkerMetrics,
    *,
    local: LocalHub | None = None,
    until_idle: bool = False,
) -> None:
    """Run jobs until cancelled, or with `until_idle` until no job is left that can continue.

    `local` is the hub of the connected agents when the worker shares its process with the API.
    """
    pool = database.work
    async with asyncio.TaskGroup() as group:
        watch = CommandWatch(listener, pool)
        services = JobServices(
            pool,
            database.statements,
            Dispatcher(pool, local),
            watch,
            metrics.jobs,
            settings.accept,
            archive_days=settings.archive_days,
        )
        registered = _Registered()
        sweeper = Sweeper(pool, settings.dead_after, settings.instance_dead_after)
        side = [
            group.create_task(watch.run()),
            group.create_task(_sweep_for_ever(sweeper, registered)),
            group.create_task(seal_for_ever(pool)),
            group.create_task(index_for_ever(pool)),
        ]
        try:
            await _run_queue(database.queue, listener, services, settings, registered, until_idle)
        finally:
            await cancel_until_done(side)


async def _run_queue(
    queue: Pool,
    listener: Listener,
    services: JobServices,
    settings: WorkerSettings,
    registered: _Registered,
    until_idle: bool,
) -> None:
    backoff = Backoff()
    while True:
        worker_app = new_app(listener)
        # A lane is all that Procrastinate uses of a pool: connections, each for one function, which is a transaction.
        await worker_app.open_async(cast("AsyncConnectionPool", queue))
        running_jobs = RunningJobs(queue, settings.concurrency, settings.dead_after, WORKER_END_SECONDS)
        registered.worker = Worker(
            app=worker_app,
            concurrency=settings.concurrency,
            fetch_job_polling_interval=FETCH_SECONDS if until_idle else FETCH_JOB_POLLING_INTERVAL,
            install_signal_handlers=False,
            update_heartbeat_interval=settings.heartbeat,
            stalled_worker_timeout=NEVER_SECONDS,
            shutdown_graceful_timeout=settings.drain,
            additional_context={"services": services},
            worker_middleware=[running_jobs.record, store_errors],
        )
        try:
            if until_idle:
                if await running_jobs.run_until_idle(registered.worker):
                    return
                continue
            await registered.worker.run()
        except DATABASE_ERRORS as error:
            logger.warning(
                "The worker lost its connection to the database: %s", error, extra={"action": "worker_lost_database"}
            )
        else:
            logger.warning("The worker stopped and starts again", extra={"action": "worker_restart"})
        await asyncio.sleep(backoff.next_delay())


async def _sweep_for_ever(sweeper: Sweeper, registered: _Registered) -> None:
    while True:
        worker_id = registered.id
        swept = await sweeper.try_sweep()
        if swept and worker_id is not None and worker_id not in sweeper.workers and worker_id == registered.id:
            _register_again(registered)
        await asyncio.sleep(sweeper.interval)


def _register_again(registered: _Registered) -> None:
    """Stop the worker's run, so that the next one registers: others took this one for dead, and have its jobs."""
    assert registered.worker is not None
    logger.warning("Other workers took this one for dead: it starts again", extra={"action": "worker_taken_for_dead"})
    registered.worker.stop()
