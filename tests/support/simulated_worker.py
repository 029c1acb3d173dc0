"""A simulated worker: it takes real jobs from the real queue, and each job continues when the test calls for it. No
time passes in a job."""

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
from onsembl.fleet.listener import Listener
from onsembl.protocol.ids import CommandId
from onsembl.protocol.states import CommandState
from onsembl.sql.database import Pool
from onsembl.tasks import run_command
from onsembl.tasks.app import new_app
from onsembl.tasks.context import JobServices
from onsembl.tasks.metrics import JobMetrics
from onsembl.tasks.run_command import NotDeliveredError, Run
from onsembl.tasks.watch import CommandChanges


class HeldChanges(CommandChanges):
    """Changes of a command that arrive when the test calls for them."""

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
        """Let the wait of the job time out."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(TimeoutError())


class HeldWatch:
    """Replaces the `CommandWatch` of one job."""

    def __init__(self) -> None:
        self.changes = HeldChanges()

    @asynccontextmanager
    async def watching(self, _command_id: CommandId) -> AsyncGenerator[CommandChanges]:
        yield self.changes


class HeldJob:
    """A job of the worker that waits for the test."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.command_id = CommandId(job.task_kwargs["command_id"])  # type: ignore[arg-type]
        self.watch = HeldWatch()
        self.abort_reason: AbortReason | None = None
        self.task: asyncio.Task[None]

    async def pause(self) -> bool:
        """Let the job run until it waits again; True when it has ended."""
        waits = asyncio.ensure_future(self.watch.changes.waits.wait())
        await asyncio.wait({self.task, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        return self.task.done()


class SimulatedWorker:
    """One worker after another; `jobs` are the jobs of the present one."""

    def __init__(self, pool: Pool, statements: Pool, hub: LocalHub) -> None:
        self._pool = pool
        self._statements = statements
        self._dispatcher = Dispatcher(pool, hub)
        self._metrics = JobMetrics(CollectorRegistry())
        self._app = new_app(Listener(""))  # which never listens
        self.jobs: list[HeldJob] = []

    async def start(self) -> None:
        await self._app.open_async(self._statements)
        await self._register()

    async def _register(self) -> None:
        self._id = await self._app.job_manager.register_worker()

    async def take_job(self) -> bool:
        """Take the next job of the queue; False when the queue is empty."""
        job = await self._app.job_manager.fetch_job(None, self._id)
        if job is None:
            return False
        held = HeldJob(job)
        context = JobContext(
            app=self._app, job=job, abort_reason=lambda: held.abort_reason, start_timestamp=0.0, additional_context={}
        )
        watch: Any = held.watch
        services = JobServices(self._pool, self._statements, self._dispatcher, watch, self._metrics)
        held.task = asyncio.create_task(Run(services, held.command_id, context).see_through())
        self.jobs.append(held)
        await self._continue(held)
        return True

    async def notify(self, held: HeldJob) -> None:
        """Notify the job of its command. As in the real notifications, only a final state is named."""
        async with self._statements.connection() as conn:
            cursor = await conn.execute("select state from commands where id = %s", [held.command_id])
            row = await cursor.fetchone()
        assert row is not None
        state = CommandState(row["state"])
        held.watch.changes.hear(None if state.is_active or state is CommandState.QUEUED else state)
        await self._continue(held)

    async def time_out(self, held: HeldJob) -> None:
        """Let every wait of the job that has a timeout time out."""
        while held.task in _timed_waits:
            held.watch.changes.time_out()
            await self._continue(held)

    async def abort(self) -> None:
        """Let the worker abort the jobs whose abortion was requested."""
        requested = set(await self._app.job_manager.list_jobs_to_abort_async())
        for held in [held for held in self.jobs if held.job.id in requested and held.abort_reason is None]:
            held.abort_reason = AbortReason.USER_REQUEST
            held.task.cancel()
            held.watch.changes.waits.clear()
            await self._continue(held)

    async def drain(self) -> None:
        """Stop the worker, which returns its jobs to the queue, and start another."""
        for held in list(self.jobs):
            held.abort_reason = AbortReason.SHUTDOWN
            held.task.cancel()
            await asyncio.wait({held.task})
            await self._continue(held)
        await self._app.job_manager.unregister_worker(self._id)
        await self._register()

    async def die(self) -> None:
        """Kill the worker, have its row removed, as others do that have missed its heartbeats, and start another."""
        await self.kill_jobs()
        async with self._statements.connection() as conn:
            await conn.execute("delete from procrastinate_workers")
        await self._register()

    async def kill_jobs(self) -> None:
        for held in self.jobs:
            held.abort_reason = None
            held.task.cancel()
            await asyncio.wait({held.task})
        self.jobs.clear()

    async def _continue(self, held: HeldJob) -> None:
        """Let the job run until it waits, and finish an ended job as Procrastinate's worker does."""
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


_timed_waits: set[asyncio.Task[Any] | None] = set()
"""Jobs that wait with a timeout."""


@asynccontextmanager
async def _manual_timeout(_seconds: float) -> AsyncGenerator[None]:
    """Replaces `asyncio.timeout`: it times out when the test calls for it."""
    _timed_waits.add(asyncio.current_task())
    try:
        yield
    finally:
        _timed_waits.discard(asyncio.current_task())


@pytest.fixture
def timeless_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose timeouts never pass by themselves."""
    names = {"timeout": _manual_timeout, "CancelledError": asyncio.CancelledError, "current_task": asyncio.current_task}
    monkeypatch.setattr(run_command, "asyncio", SimpleNamespace(**names))
