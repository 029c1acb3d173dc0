"""Procrastinate's tables: jobs as operators see them, and changes to jobs within the caller's transaction.

Procrastinate's Python interface would act outside that transaction. The SQL functions are the library's own; the
migrations keep its schema at the library's version.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from psycopg.rows import DictRow

from onsembl.protocol.waking import Load
from onsembl.sql.database import Connection

LONGEST_DELAY_SECONDS = 60.0
"""No job of a command is to wait longer than this for its next attempt."""


async def worker_numbers(conn: Connection) -> dict[int, str]:
    """The number of each worker's last heartbeat: that of the transaction that wrote it."""
    cursor = await conn.execute("select id, xmin::text as number from procrastinate_workers")
    return {row["id"]: row["number"] for row in await cursor.fetchall()}


async def lock_silent_workers(conn: Connection, numbers: Mapping[int, str]) -> list[int]:
    """The workers among these whose last heartbeat still has this number. Until the transaction ends, they can write no
    other one."""
    cursor = await conn.execute(
        """select workers.id
           from procrastinate_workers as workers join unnest(%s::bigint[], %s::text[]) as silent (id, number)
               on silent.id = workers.id and silent.number = workers.xmin::text
           order by workers.id
           for no key update of workers skip locked""",
        [list(numbers), list(numbers.values())],
    )
    return [row["id"] for row in await cursor.fetchall()]


async def remove_workers(conn: Connection, dead: Collection[int]) -> None:
    """Remove the rows of dead workers."""
    await conn.execute("delete from procrastinate_workers where id = any(%s)", [list(dead)])


async def stalled(conn: Connection, dead: Collection[int]) -> list[DictRow]:
    """Jobs of workers that are removed or among `dead`, locked until the transaction ends.

    `needed` is true unless the command that the job runs is over.
    """
    cursor = await conn.execute(
        """select jobs.id,
                  not args ? 'command_id' or exists (
                      select from commands where job_id = jobs.id and state in ('dispatched', 'running')) as needed
           from procrastinate_jobs as jobs
           where jobs.status = 'doing' and (jobs.worker_id is null or jobs.worker_id = any(%s))
           order by jobs.id
           for update of jobs skip locked""",
        [list(dead)],
    )
    return await cursor.fetchall()


async def retry(conn: Connection, job_id: int) -> None:
    """Queue a stalled job again; a job whose abort was requested fails instead."""
    await conn.execute("select procrastinate_retry_job_v2(%s, now(), null, null, null)", [job_id])


async def bring_forward(conn: Connection) -> None:
    """Make jobs of commands due that wait longer than any retry asks for: a clock was ahead at that time."""
    await conn.execute(
        """update procrastinate_jobs set scheduled_at = now()
           where status = 'todo' and args ? 'command_id' and scheduled_at > now() + make_interval(secs => %s)""",
        [LONGEST_DELAY_SECONDS],
    )


_AWAY = """exists (
    select from commands join agents on agents.id = commands.agent_id
    where commands.job_id = jobs.id and agents.status = 'offline'
      and coalesce(agents.disconnected_at, '-infinity') < now() - make_interval(secs => %(away_after)s))"""


async def load(conn: Connection, away_after: float) -> Load:
    """How much there is to do, and how many do it; jobs of agents offline for `away_after` seconds do not count."""
    cursor = await conn.execute(
        f"""select count(*) as jobs, min(id) filter (where status = 'todo') as oldest,
                   (select count(*) from procrastinate_workers) as workers
            from procrastinate_jobs as jobs
            where (status = 'doing' or status = 'todo' and (scheduled_at is null or scheduled_at <= now()))
              and not {_AWAY}""",
        {"away_after": away_after},
    )
    row = await cursor.fetchone()
    assert row is not None
    return Load(**row)


async def due(conn: Connection, away_after: float) -> bool:
    """Whether a job waits that a worker could start now; jobs of agents offline for `away_after` seconds do not
    count."""
    cursor = await conn.execute(
        f"""select exists (
               select from procrastinate_jobs as jobs
               where status = 'todo' and (scheduled_at is null or scheduled_at <= now())
                 and not exists (
                     select from procrastinate_jobs as holder
                     where holder.lock = jobs.lock and holder.status = 'doing')
                 and not {_AWAY}) as due""",
        {"away_after": away_after},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["due"]


async def held(conn: Connection, worker_id: int) -> bool:
    """Whether a worker has jobs that it has fetched and not ended."""
    cursor = await conn.execute(
        "select exists (select from procrastinate_jobs where worker_id = %s and status = 'doing') as held", [worker_id]
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["held"]


async def stuck(conn: Connection, job_ids: Collection[int], away_after: float) -> bool:
    """Whether each of these jobs waits for an agent that has been offline for `away_after` seconds."""
    cursor = await conn.execute(
        f"select from procrastinate_jobs as jobs where id = any(%(ids)s) and not {_AWAY}",
        {"ids": list(job_ids), "away_after": away_after},
    )
    return await cursor.fetchone() is None


async def retry_failed(conn: Connection, job_id: int) -> bool:
    """Queue a failed job again; False when the job has not failed."""
    cursor = await conn.execute(
        """with failed as (
               select id from procrastinate_jobs where id = %s and status = 'failed' for update)
           select procrastinate_retry_job_v2(id, now(), null, null, null) from failed""",
        [job_id],
    )
    return cursor.rowcount == 1


async def give_up(conn: Connection, job_id: int) -> None:
    """Fail a stalled job that is no longer needed."""
    await conn.execute("select procrastinate_finish_job_v1(%s, 'failed', false)", [job_id])


STATUSES = {
    "waiting": "todo",
    "running": "doing",
    "stalled": "doing",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "aborted": "aborted",
}
"""The displayed state → the status in Procrastinate's table. `stalled` is a job of a dead worker."""

_STATE = """case jobs.status::text
        when 'todo' then 'waiting'
        when 'doing' then
            case when workers.last_heartbeat >= now() - make_interval(secs => %(dead_after)s) then 'running'
            else 'stalled' end
        else jobs.status::text end"""

_JOBS = f"""
    select jobs.id, jobs.task_name as task, {_STATE} as state, jobs.attempts, jobs.scheduled_at, jobs.worker_id,
           runs.command_id, commands.agent_id, agents.name as agent,
           times.created_at, times.started_at, times.ended_at, job_errors.error, job_errors.at as error_at
    from procrastinate_jobs as jobs
    left join procrastinate_workers as workers on workers.id = jobs.worker_id
    left join job_errors on job_errors.job_id = jobs.id
    cross join lateral (
        select case
            when jobs.args ->> 'command_id' ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
            then (jobs.args ->> 'command_id')::uuid end as command_id) as runs
    left join commands on commands.id = runs.command_id
    left join agents on agents.id = commands.agent_id
    cross join lateral (
        select min(at) as created_at, max(at) filter (where type = 'started') as started_at,
               max(at) filter (
                   where type::text = jobs.status::text
                     and type in ('succeeded', 'failed', 'cancelled', 'aborted')) as ended_at
        from procrastinate_events where job_id = jobs.id) as times"""


async def page(
    conn: Connection, states: Collection[str], dead_after: float, before: int | None, limit: int
) -> list[DictRow]:
    """Jobs in these states, newest first; a worker silent for `dead_after` seconds is dead."""
    cursor = await conn.execute(
        f"""select * from (
                {_JOBS}
                where jobs.status = any(%(statuses)s::procrastinate_job_status[])
                  and (%(before)s::bigint is null or jobs.id < %(before)s)
            ) as listed
            where state = any(%(states)s)
            order by id desc
            limit %(limit)s""",
        {
            "statuses": sorted({STATUSES[state] for state in states}),
            "states": list(states),
            "dead_after": dead_after,
            "before": before,
            "limit": limit,
        },
    )
    return await cursor.fetchall()


async def get(conn: Connection, job_id: int, dead_after: float) -> DictRow | None:
    """One job."""
    cursor = await conn.execute(f"{_JOBS} where jobs.id = %(id)s", {"id": job_id, "dead_after": dead_after})
    return await cursor.fetchone()


async def workers(conn: Connection, dead_after: float) -> list[DictRow]:
    """Every worker that has not exited cleanly: the time of its last heartbeat, and the number of its jobs."""
    cursor = await conn.execute(
        """select id, last_heartbeat as heartbeat_at,
                  last_heartbeat >= now() - make_interval(secs => %s) as alive,
                  (select count(*) from procrastinate_jobs where worker_id = workers.id and status = 'doing') as jobs
           from procrastinate_workers as workers
           order by id""",
        [dead_after],
    )
    return await cursor.fetchall()


async def last_runs(conn: Connection, dead_after: float) -> dict[str, DictRow]:
    """The newest job of each periodic task, by the task's name, with the time for which it was scheduled (`due_at`)."""
    cursor = await conn.execute(
        f"""select distinct on (defers.task_name) defers.task_name, to_timestamp(defers.defer_timestamp) as due_at,
                   listed.*
            from procrastinate_periodic_defers as defers
            left join lateral (
                {_JOBS} where jobs.id = defers.job_id
            ) as listed on true
            order by defers.task_name, defers.defer_timestamp desc""",
        {"dead_after": dead_after},
    )
    return {row["task_name"]: row for row in await cursor.fetchall()}


async def store_error(conn: Connection, job_id: int, error: str) -> None:
    """Store the error of a job's latest attempt."""
    await conn.execute(
        """insert into job_errors (job_id, error) values (%s, %s)
           on conflict (job_id) do update set at = now(), error = excluded.error""",
        [job_id, error],
    )
