"""A worker whose jobs are the real ones, taken from the real queue, and go on when the test says so: no time passes in
them by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job, Status
from prometheus_client import CollectorRegistry

from onsembl.fleet.instance_messages import Dispatcher, LocalHub
from onsembl.protocol.ids import CommandId
from onsembl.protocol.states import CommandState
from onsembl.sql.database import Pool
from onsembl.tasks import run_command
from onsembl.tasks.app import new_app
from onsembl.tasks.metrics import JobMetrics
from onsembl.tasks.run_command import NotDeliveredError, Run, Services
from onsembl.tasks.watch import Changes


class HeldChanges(Changes):
    """Nothing is heard before the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Event()
        self._turn: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        self._turn = asyncio.get_running_loop().create_future()
        self.waits.set()
        try:
            await self._turn
        finally:
            self._turn = None
            self.waits.clear()

    def hear(self, state: CommandState | None) -> None:
        super().hear(state)
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def time_out(self) -> None:
        """As long as whoever waits was ready to wait nothing came."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(TimeoutError())


class HeldWatch:
    """In the place of the `CommandWatch` of one job."""

    def __init__(self) -> None:
        self.changes = HeldChanges()

    @asynccontextmanager
    async def watching(self, _command_id: CommandId) -> AsyncGenerator[Changes]:
        yield self.changes


class HeldJob:
    """A job that this worker has."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.command_id = CommandId(job.task_kwargs["command_id"])  # type: ignore[arg-type]
        self.watch = HeldWatch()
        self.abort_reason: AbortReason | None = None
        self.task: asyncio.Task[None]

    async def pause(self) -> bool:
        """Let it run until it waits again; whether it is over."""
        waits = asyncio.ensure_future(self.watch.changes.waits.wait())
        await asyncio.wait({self.task, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        return self.task.done()


class PlayedWorker:
    """One worker after another; `jobs` are those that the present one has."""

    def __init__(self, pool: Pool, statements: Pool, hub: LocalHub) -> None:
        self._pool = pool
        self._statements = statements
        self._dispatcher = Dispatcher(pool, hub)
        self._metrics = JobMetrics(CollectorRegistry())
        self._app = new_app()
        self.jobs: list[HeldJob] = []

    async def begin(self) -> None:
        await self._app.open_async(self._statements)
        await self._register()

    async def _register(self) -> None:
        self._id = await self._app.job_manager.register_worker()

    async def take(self) -> bool:
        """Take the next job of the queue; whether there was one."""
        job = await self._app.job_manager.fetch_job(None, self._id)
        if job is None:
            return False
        held = HeldJob(job)
        context = JobContext(
            app=self._app, job=job, abort_reason=lambda: held.abort_reason, start_timestamp=0.0, additional_context={}
        )
        watch: Any = held.watch
        services = Services(self._pool, self._statements, self._dispatcher, watch, self._metrics)
        held.task = asyncio.create_task(Run(services, held.command_id, context).see_through())
        self.jobs.append(held)
        await self._go_on(held)
        return True

    async def hear(self, held: HeldJob) -> None:
        """The job hears of its command: its state alone where it is over, as whoever writes the end says it."""
        async with self._statements.connection() as conn:
            cursor = await conn.execute("select state from commands where id = %s", [held.command_id])
            row = await cursor.fetchone()
        assert row is not None
        state = CommandState(row["state"])
        held.watch.changes.hear(None if state.is_active or state is CommandState.QUEUED else state)
        await self._go_on(held)

    async def lose_patience(self, held: HeldJob) -> None:
        """It has waited for as long as it was ready to, for all that there is an end to."""
        while held.task in _impatient:
            held.watch.changes.time_out()
            await self._go_on(held)

    async def abort(self) -> None:
        """The worker looks which of its jobs are to be aborted."""
        wished = set(await self._app.job_manager.list_jobs_to_abort_async())
        for held in [held for held in self.jobs if held.job.id in wished and held.abort_reason is None]:
            held.abort_reason = AbortReason.USER_REQUEST
            held.task.cancel()
            held.watch.changes.waits.clear()
            await self._go_on(held)

    async def drain(self) -> None:
        """It stops, and hands its jobs over; another begins."""
        for held in list(self.jobs):
            held.abort_reason = AbortReason.SHUTDOWN
            held.task.cancel()
            await asyncio.wait({held.task})
            await self._go_on(held)
        await self._app.job_manager.unregister_worker(self._id)
        await self._register()

    async def die(self) -> None:
        """It dies without a word, and is silent for an hour; another begins."""
        await self.vanish()
        async with self._statements.connection() as conn:
            await conn.execute("update procrastinate_workers set last_heartbeat = now() - interval '1 hour'")
        await self._register()

    async def vanish(self) -> None:
        for held in self.jobs:
            held.abort_reason = None
            held.task.cancel()
            await asyncio.wait({held.task})
        self.jobs.clear()

    async def _go_on(self, held: HeldJob) -> None:
        """As Procrastinate's worker ends a job."""
        if not await held.pause():
            return
        self.jobs.remove(held)
        manager = self._app.job_manager
        try:
            held.task.result()
        except JobAborted:
            await manager.finish_job(held.job, Status.ABORTED, delete_job=False)
        except (NotDeliveredError, asyncio.CancelledError):
            await manager.retry_job(held.job)
        else:
            await manager.finish_job(held.job, Status.SUCCEEDED, delete_job=False)


_impatient: set[asyncio.Task[Any] | None] = set()
"""Jobs that wait for so long only."""


@asynccontextmanager
async def _no_time(_seconds: float) -> AsyncGenerator[None]:
    """In the place of `asyncio.timeout`: it ends when the test says so."""
    _impatient.add(asyncio.current_task())
    try:
        yield
    finally:
        _impatient.discard(asyncio.current_task())


@pytest.fixture
def timeless_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job goes on because time passes."""
    names = {"timeout": _no_time, "CancelledError": asyncio.CancelledError, "current_task": asyncio.current_task}
    monkeypatch.setattr(run_command, "asyncio", SimpleNamespace(**names))
