"""The `commands` table: commands that have passed a limit, and are stopped because their agent has not seen to it."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.protocol.ids import CommandId
from onsembl.protocol.limits import LimitName
from onsembl.sql.commands import COLUMNS
from onsembl.sql.database import Connection
from onsembl.sql.instances import GAP_SECONDS


async def overdue(conn: Connection, grace: float) -> list[DictRow]:
    """Commands that nobody has stopped `grace` seconds after they passed a limit, with the limit as `passed`.

    Only of agents that have been connected for so long, to instances that have reached the database for so long:
    others may have done or said what is not known here yet. No command began before it was handed out, whatever its
    agent's clock says.
    """
    cursor = await conn.execute(
        """select * from (
               select commands.id, agent_id, commands.limits, job_id, case
                   when began + make_interval(secs => (commands.limits ->> 'wall_seconds')::float8 + %(grace)s) < now()
                       then 'wall_seconds'
                   when greatest(began, connected_at, reached_since, (
                           select max(at) from archive
                           where archive.stream_id = commands.stream_id and at >= began))
                       + make_interval(secs => (commands.limits ->> 'idle_seconds')::float8 + %(grace)s) < now()
                       then 'idle_seconds'
                   when over_at + make_interval(secs => %(grace)s) < now()
                       then case
                           when (usage ->> 'cost_usd')::float8 > (commands.limits ->> 'cost_usd')::float8
                           then 'cost_usd' else 'tokens' end
                   end as passed
               from commands
               join agents on agents.id = agent_id and status = 'online'
               join instances on instances.id = instance_id
                   and heartbeat_at > now() - make_interval(secs => %(gap)s)
               cross join lateral (select greatest(commands.started_at, dispatched_at) as began) as bounds
               where state = 'running' and commands.limits <> '{}' and cancel_requested_at is null
                 and greatest(connected_at, reached_since) + make_interval(secs => %(grace)s) < now()) as limited
           where passed is not null""",
        {"grace": grace, "gap": GAP_SECONDS},
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
