"""Procrastinate's table of jobs, where its own interface would act outside our transaction.

The functions called are the library's own, of the schema that the migrations hold to its version.
"""

from __future__ import annotations

from collections.abc import Collection

from psycopg.rows import DictRow

from onsembl.sql.database import Connection


async def stalled(conn: Connection, dead_after: float) -> list[DictRow]:
    """Jobs of workers that are gone or silent for `dead_after` seconds, locked until the end of the transaction.

    `needed` is whether it has something to do still: the command that it runs is not over, or it runs none.
    """
    cursor = await conn.execute(
        """select jobs.id,
                  not args ? 'command_id' or exists (
                      select from commands where job_id = jobs.id and state in ('dispatched', 'running')) as needed
           from procrastinate_jobs as jobs
           left join procrastinate_workers as workers on workers.id = jobs.worker_id
           where jobs.status = 'doing'
             and (workers.id is null or workers.last_heartbeat < now() - make_interval(secs => %s))
           order by jobs.id
           for update of jobs skip locked""",
        [dead_after],
    )
    return await cursor.fetchall()


async def retry(conn: Connection, job_id: int) -> None:
    """Have a stalled job taken up again; one whose abort was asked for fails instead."""
    await conn.execute("select procrastinate_retry_job_v2(%s, now(), null, null, null)", [job_id])


_AWAY = """exists (
    select from commands join agents on agents.id = commands.agent_id
    where commands.job_id = jobs.id and agents.status = 'offline'
      and coalesce(agents.disconnected_at, '-infinity') < now() - make_interval(secs => %(away_after)s))"""


async def due(conn: Connection, away_after: float) -> bool:
    """Whether a job waits that a worker could take now, and not for an agent that has been away for so many seconds."""
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


async def stuck(conn: Connection, job_ids: Collection[int], away_after: float) -> bool:
    """Whether each of these waits for an agent that has been away for so many seconds."""
    cursor = await conn.execute(
        f"select from procrastinate_jobs as jobs where id = any(%(ids)s) and not {_AWAY}",
        {"ids": list(job_ids), "away_after": away_after},
    )
    return await cursor.fetchone() is None


async def retry_failed(conn: Connection, job_id: int) -> bool:
    """Have a job that failed taken up again; False when it has not failed."""
    cursor = await conn.execute(
        """with failed as (
               select id from procrastinate_jobs where id = %s and status = 'failed' for update)
           select procrastinate_retry_job_v2(id, now(), null, null, null) from failed""",
        [job_id],
    )
    return cursor.rowcount == 1


async def give_up(conn: Connection, job_id: int) -> None:
    """A stalled job has nothing more to do."""
    await conn.execute("select procrastinate_finish_job_v1(%s, 'failed', false)", [job_id])
