"""The queue: jobs, why they failed, the tasks that come by themselves, and the workers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, cast, get_args
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, NoBody, Query, Time
from onsembl.api.http.problems import Problem
from onsembl.fleet.recurrence import next_times
from onsembl.protocol.states import Role
from onsembl.sql import audit, jobs
from onsembl.tasks.app import PERIODIC

JobState = Literal["waiting", "running", "stalled", "succeeded", "failed", "cancelled", "aborted"]
MOST_ID = 2**63 - 1


class Job(Answer, frozen=True, kw_only=True):
    """One job. `stalled` is one whose worker is gone; another takes it over shortly. `command_id` and the agent are
    there if it runs a command; `error` is why its latest attempt failed."""

    id: int
    task: str
    state: JobState
    attempts: int
    created_at: Time | None
    scheduled_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    worker_id: int | None
    command_id: UUID | None
    agent_id: UUID | None
    agent: str | None
    error: str | None
    error_at: Time | None


class Jobs(Answer, frozen=True, kw_only=True):
    """Jobs, newest first; those that ended more than a day ago are removed."""

    jobs: list[Job]
    next_before: int | None


class PeriodicTask(Answer, frozen=True, kw_only=True):
    """A task that comes by itself; `last_job` is the job of the time `last_due_at`, as long as it is kept."""

    name: str
    cron: str
    next_at: Time
    last_due_at: Time | None
    last_job: Job | None


class PeriodicTasks(Answer, frozen=True, kw_only=True):
    """Every one, by name. Their cron expressions are in UTC."""

    tasks: list[PeriodicTask]


class Worker(Answer, frozen=True, kw_only=True):
    """A worker that has not left in good order; one that is not `alive` was not heard for too long."""

    id: int
    heartbeat_at: Time
    alive: bool
    jobs: int


class Workers(Answer, frozen=True, kw_only=True):
    """Every one, the oldest first."""

    workers: list[Worker]


class JobQuery(Query, frozen=True, kw_only=True):
    """Which page; `state` is one, or several with commas between."""

    state: Annotated[str, Meta(max_length=200)] | None = None
    before: Annotated[int, Meta(ge=1, le=MOST_ID)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50

    def states(self) -> list[str]:
        """Raises Problem 400."""
        known = get_args(JobState)
        asked = self.state.split(",") if self.state is not None else list(known)
        if unknown := sorted(set(asked) - set(known)):
            raise Problem(400, f"There is no such state: {', '.join(unknown)}. There are {', '.join(known)}.")
        return asked


async def list_jobs(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(JobQuery)
    states = query.states()
    async with call.services.pool.connection() as conn:
        rows = await jobs.page(conn, states, call.services.settings.dead_after, query.before, query.limit + 1)
    page = rows[: query.limit]
    return {"jobs": page, "next_before": page[-1]["id"] if len(rows) > query.limit else None}


async def list_periodic_tasks(call: Call[NoBody]) -> PeriodicTasks:
    async with call.services.pool.connection() as conn:
        last = await jobs.last_runs(conn, call.services.settings.dead_after)
    now = datetime.now(UTC)
    return PeriodicTasks(
        tasks=[
            PeriodicTask(
                name=name,
                cron=cron,
                next_at=next_times(cron, "UTC", now)[0],
                last_due_at=last[name]["due_at"] if name in last else None,
                last_job=_last_job(last.get(name)),
            )
            for name, cron in sorted(PERIODIC.items())
        ]
    )


async def list_workers(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        return {"workers": await jobs.workers(conn, call.services.settings.dead_after)}


async def retry_job(call: Call[NoBody]) -> dict[str, object]:
    """Only what tidies and fires schedules: each of those may run as often as one likes."""
    job_id = cast("int", call.request.path_params["job_id"])
    if job_id > MOST_ID:
        raise Problem(404, "There is no such job.")
    silence = call.services.settings.dead_after
    async with call.services.pool.connection() as conn:
        row = await jobs.get(conn, job_id, silence)
        if row is None:
            raise Problem(404, "There is no such job.")
        if row["command_id"] is not None:
            raise Problem(409, "A command's job is not run again; send the command again.")
        if not await jobs.retry_failed(conn, job_id):
            raise Problem(409, f"Only a job that has failed is run again; this one is {row['state']}.")
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="job.retried",
                target_kind="job",
                target_id=str(job_id),
                detail={"task": row["task"]},
            ),
        )
        retried = await jobs.get(conn, job_id, silence)
    assert retried is not None
    return retried


def _last_job(row: dict[str, object] | None) -> Job | None:
    return msgspec.convert(row, Job) if row is not None and row["id"] is not None else None


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/jobs",
        handler=list_jobs,
        summary="The queue's jobs, newest first",
        answer=Jobs,
        role=Role.OPERATOR,
        query=JobQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/periodic",
        handler=list_periodic_tasks,
        summary="The tasks that come by themselves: when they came last, and when they come next",
        answer=PeriodicTasks,
        role=Role.OPERATOR,
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/workers",
        handler=list_workers,
        summary="The workers, and when each was heard last",
        answer=Workers,
        role=Role.OPERATOR,
    ),
    Endpoint(
        method="POST",
        path="/v1/jobs/{job_id:int}/retry",
        handler=retry_job,
        summary="Run a job that has failed again; not a command's",
        answer=Job,
        role=Role.ADMIN,
        problems=(404, 409),
    ),
]
