"""The `commands` table: commands that have passed a limit, and are stopped because their agent has not seen to it."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.protocol.ids import CommandId
from onsembl.protocol.limits import LimitName
from onsembl.sql.commands import COLUMNS
from onsembl.sql.database import Connection


async def overdue(conn: Connection, grace: float) -> list[DictRow]:
    """Commands that nobody has stopped `grace` seconds after they passed a limit, with the limit as `passed`."""
    cursor = await conn.execute(
        """select * from (
               select id, agent_id, limits, job_id, case
                   when started_at + make_interval(secs => (limits ->> 'wall_seconds')::float8 + %(grace)s) < now()
                       then 'wall_seconds'
                   when greatest(started_at, (
                           select max(at) from archive
                           where stream_id = commands.stream_id and at >= commands.started_at))
                       + make_interval(secs => (limits ->> 'idle_seconds')::float8 + %(grace)s) < now()
                       then 'idle_seconds'
                   when over_at + make_interval(secs => %(grace)s) < now()
                       then case
                           when (usage ->> 'cost_usd')::float8 > (limits ->> 'cost_usd')::float8 then 'cost_usd'
                           else 'tokens' end
                   end as passed
               from commands
               where state = 'running' and limits <> '{}' and cancel_requested_at is null) as limited
           where passed is not null""",
        {"grace": grace},
    )
    return await cursor.fetchall()


async def stop_at(conn: Connection, command_id: CommandId, limit: LimitName, reason: str) -> DictRow | None:
    """Wish that a running command is stopped, for nobody but its limit; None when it is over."""
    cursor = await conn.execute(
        f"""update commands set limit_passed = %s, cancel_requested_at = now(), cancel_reason = %s
            where id = %s and state = 'running' and cancel_requested_at is null
            returning {COLUMNS}""",
        [limit, reason, command_id],
    )
    return await cursor.fetchone()
