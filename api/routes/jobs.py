"""Jobs with their errors, periodic tasks, and workers."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal, cast, get_args
from uuid import UUID

from msgspec import Meta
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, NoBody, Query, Time
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.commands_models import StateList
from onsembl.fleet.recurrence import next_times
from onsembl.protocol.field_types import RowNumber
from onsembl.protocol.states import Role
from onsembl.protocol.waking import wanted_workers
from onsembl.sql import audit, jobs
from onsembl.tasks.app import PERIODIC

JobState = Literal["waiting", "running", "stalled", "succeeded", "failed", "cancelled", "aborted"]


class Job(Answer, frozen=True, kw_only=True):
    """A job. `stalled`: the job's worker is gone; another worker takes over the job shortly. `command_id` and the agent
    are set if the job runs a command. `error` is the error of the latest attempt."""

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
    """A page of jobs, newest first. Jobs that ended more than a day ago are removed."""

    jobs: list[Job]
    next_before: int | None


class PeriodicTask(Answer, frozen=True, kw_only=True):
    """A task that runs periodically; `last_job` is the job of the time `last_due_at`, null when it was removed."""

    name: str
    cron: str
    next_at: Time
    last_due_at: Time | None
    last_job: Job | None


class PeriodicTasks(Answer, frozen=True, kw_only=True):
    """All periodic tasks, by name. Their cron expressions are in UTC."""

    tasks: list[PeriodicTask]


class Worker(Answer, frozen=True, kw_only=True):
    """A worker that has not signed off; a worker that is not `alive` has sent no heartbeat for too long."""

    id: int
    heartbeat_at: Time
    alive: bool
    jobs: int


class Workers(Answer, frozen=True, kw_only=True):
    """All workers, oldest first. `load` is the number of jobs that run or could start, `wanted` how many workers are
    wanted for them."""

    load: int
    wanted: int

    workers: list[Worker]


class JobQuery(Query, frozen=True, kw_only=True):
    """A page of jobs; `state` is one state, or several separated by commas."""

    state: StateList | None = None
    before: RowNumber | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50

    def states(self) -> list[str]:
        """The states in `state`. Raises Problem 400."""
        known = get_args(JobState)
        asked = self.state.split(",") if self.state is not None else list(known)
        if unknown := sorted(set(asked) - set(known)):
            raise Problem(400, f"Unknown state: {', '.join(unknown)}. The states are {', '.join(known)}.")
        return asked


async def list_jobs(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(JobQuery)
    states = query.states()
    async with call.services.pool.connection() as conn:
        dead_after = call.services.settings.dead_after
        page = await read_page(query.limit, partial(jobs.page, conn, states, dead_after, query.before))
    return {"jobs": page.rows, "next_before": page.cursor("id")}


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
    settings = call.services.settings
    async with call.services.pool.connection() as conn:
        load = (await jobs.load(conn, settings.dead_after)).jobs
        rows = await jobs.workers(conn, settings.dead_after)
    return {"load": load, "wanted": wanted_workers(load, settings.jobs_per_worker), "workers": rows}


async def retry_job(call: Call[NoBody]) -> dict[str, object]:
    """Only periodic tasks are retried; each of them may run at any time."""
    job_id = cast("int", call.request.path_params["job_id"])
    silence = call.services.settings.dead_after
    async with call.services.pool.connection() as conn:
        row = found(await jobs.get(conn, job_id, silence), "job")
        if row["command_id"] is not None:
            raise Problem(409, "The job of a command cannot be retried. Send the command again.")
        if not await jobs.retry_failed(conn, job_id):
            raise Problem(409, f"Only a failed job can be retried; this job is {row['state']}.")
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


def _last_job(row: DictRow | None) -> Job | None:
    if row is None or row["id"] is None:
        return None
    return Job(**{name: row[name] for name in Job.__struct_fields__})


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/jobs",
        handler=list_jobs,
        summary="List jobs, newest first",
        answer=Jobs,
        role=Role.OPERATOR,
        query=JobQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/periodic",
        handler=list_periodic_tasks,
        summary="List periodic tasks, with their last and next times",
        answer=PeriodicTasks,
        role=Role.OPERATOR,
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/workers",
        handler=list_workers,
        summary="List workers, with their last heartbeats",
        answer=Workers,
        role=Role.OPERATOR,
    ),
    Endpoint(
        method="POST",
        path="/v1/jobs/{job_id:number}/retry",
        handler=retry_job,
        summary="Retry a failed job that runs no command",
        answer=Job,
        role=Role.ADMIN,
        problems=(404, 409),
    ),
]
