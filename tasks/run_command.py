"""The job that runs one command: it has the agent get the command, waits for the end, and has the agent cancel it.

The job keeps no state. The agent runs the command and reports the end to the API, which records it. So the job of a
dead worker is simply run again: it reads the command's row and continues to wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import psycopg
from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.exceptions import JobAborted
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job
from procrastinate.worker import Worker
from psycopg.rows import DictRow
from psycopg_pool import PoolTimeout

from onsembl.protocol import request_ids
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import AgentStatus, CommandState
from onsembl.sql import agents, audit, commands, jobs
from onsembl.tasks.context import JobServices, services_of
from onsembl.tasks.watch import CommandChanges

logger = logging.getLogger(__name__)

MAX_DELIVERIES = 3
MAX_ERROR_CHARACTERS = 2000
HEAD_START_SECONDS = 0.1


class NotDeliveredError(Exception):
    """The agent is online and did not accept the command in time."""

    def __init__(self, attempts: int) -> None:
        super().__init__(f"not accepted after {attempts} offers")
        self.attempts = attempts


class DeliveryRetry(BaseRetryStrategy):
    """Retry a failed delivery after 2 s, then after 4 s; retry at once when only the worker stops."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, NotDeliveredError):
            return RetryDecision(retry_in={"seconds": 2**exception.attempts})
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_in={"seconds": 0})
        return None


async def run_command(context: JobContext, *, command_id: str) -> None:
    """Run the job of a command. Raises JobAborted when the command was cancelled, NotDeliveredError for another
    attempt."""
    services = services_of(context)
    with services.metrics.running.track_inprogress():
        await Run(services, CommandId(UUID(command_id)), context).see_through()


class Run:
    """One run of a job for one command."""

    def __init__(self, services: JobServices, command_id: CommandId, context: JobContext) -> None:
        self._services = services
        self._command_id = command_id
        self._context = context
        self._taken_up = False
        self._waited = False

    async def see_through(self) -> None:
        row: DictRow | None = None
        async with self._services.watch.watching(self._command_id) as changes:
            while True:
                try:
                    state = changes.take()
                    row = await self._read() if row is None or state is None else {**row, "state": state}
                    if row is None or not self._is_mine(row):
                        break
                    if not self._taken_up:
                        self._take_up(row)
                    await self._wait(row, changes)
                except asyncio.CancelledError:
                    if self._context.abort_reason() is not AbortReason.USER_REQUEST:
                        # The worker stops, and another worker runs the job again. A job without further work ends
                        # instead: waiting, it would hold up the job of the agent's next command.
                        if await self._goes_on():
                            raise
                        break
                    # An operator's cancel request arrives as the cancellation of the job. The request is already on the
                    # row: the next pass sends the cancel to the agent, and the job stays until the processes have
                    # exited.
                    task = asyncio.current_task()
                    assert task is not None
                    task.uncancel()
                    row = None
        if row is not None:
            logger.info(
                "The job of a command is over: %s",
                row["state"],
                extra={"action": "command_seen_through", "state": row["state"], **_named(row)},
            )
            if row["state"] == CommandState.CANCELLED:
                raise JobAborted

    def _is_mine(self, row: DictRow) -> bool:
        """Whether the command is active, and this is its job."""
        return CommandState(row["state"]).is_active and row["job_id"] == self._context.job.id

    async def _goes_on(self) -> bool:
        try:
            row = await self._read()
        except (psycopg.Error, PoolTimeout):
            return True  # unknown without the database
        return row is not None and self._is_mine(row)

    def _take_up(self, row: DictRow) -> None:
        self._taken_up = True
        attempt = self._context.job.attempts
        logger.info(
            "The job of a command has started",
            extra={"action": "command_taken_up", "attempt": attempt + 1, **_named(row)},
        )
        if attempt == 0 and row["dispatched_at"] is not None:
            latency = (datetime.now(UTC) - row["dispatched_at"]).total_seconds()
            self._services.metrics.latency.observe(max(0.0, latency))

    async def _read(self) -> DictRow | None:
        async with self._services.statements.connection() as conn:
            row = await commands.get(conn, self._command_id)
        if row is not None:
            request_ids.set_current(row["request_id"])  # until the end of the job, which Procrastinate logs
        return row

    async def _wait(self, row: DictRow, changes: CommandChanges) -> None:
        """Have the agent sent the command's offer or cancel if one is due, and wait for the next change."""
        agent_id = AgentId(row["agent_id"])
        offered = row["state"] == CommandState.DISPATCHED
        if offered and not self._waited and row["cancel_requested_at"] is None:
            # The transaction that added the job also dispatched the command if it could, and a short one is over by
            # now.
            self._waited = True
            with suppress(TimeoutError):
                async with asyncio.timeout(HEAD_START_SECONDS):
                    await changes.wait()
            return
        online = True
        if offered or row["cancel_requested_at"] is not None:
            online = await self._services.dispatcher.dispatch(row)
        if not (offered and online):
            await changes.wait()
            return
        try:
            async with asyncio.timeout(self._services.accept_seconds):
                await changes.wait()
        except TimeoutError:
            late = await self._read()
            if late is None or late["state"] != CommandState.DISPATCHED:
                return
            self._services.metrics.undelivered.inc()
            await self._not_accepted(agent_id, row["delivery_attempts"] + 1)

    async def _not_accepted(self, agent_id: AgentId, attempt: int) -> None:
        async with self._services.pool.connection() as conn:
            agent = await agents.lock(conn, agent_id)
            if agent is None or agent["status"] != AgentStatus.ONLINE:
                return  # The agent went offline meanwhile; its next connection wakes this job.
            final = attempt >= MAX_DELIVERIES
            attempts = await commands.undelivered(conn, self._command_id, final=final)
            if attempts is None:
                return
            logger.warning(
                "An agent did not accept a command",
                extra={
                    "action": "offer_not_accepted",
                    "attempt": attempts,
                    "command_id": str(self._command_id),
                    "agent_id": str(agent_id),
                },
            )
            if final:
                await audit.write(
                    conn,
                    audit.Event(
                        actor=audit.SYSTEM,
                        action="command.undelivered",
                        target_kind="command",
                        target_id=str(self._command_id),
                        outcome="failed",
                        detail={"attempts": attempts},
                    ),
                )
                await commands.promote(conn, agent_id)
                return
        raise NotDeliveredError(attempts)


def _named(row: DictRow) -> dict[str, str]:
    return {"command_id": str(row["id"]), "agent_id": str(row["agent_id"])}


async def store_errors(call_next: Callable[[], Awaitable[object]], context: JobContext, _worker: Worker) -> object:
    """Worker middleware: store the error that a job raises, since the queue stores only that the job failed. A
    requested abort is not an error."""
    try:
        return await call_next()
    except JobAborted:
        raise
    except Exception as error:
        await _store_error(context, f"{type(error).__name__}: {error}".replace("\0", "")[:MAX_ERROR_CHARACTERS])
        raise


async def _store_error(context: JobContext, text: str) -> None:
    job_id = context.job.id
    assert job_id is not None, "a running job has an id"
    try:
        async with services_of(context).statements.connection() as conn:
            await jobs.store_error(conn, job_id, text)
    except (psycopg.Error, PoolTimeout) as error:
        logger.warning(
            "The error of a job could not be stored: %s", error, extra={"action": "job_error_lost", "job_id": job_id}
        )
