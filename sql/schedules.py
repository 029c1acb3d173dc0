"""The `schedules` and `schedule_runs` tables: commands that run on a schedule, and each of their runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.ids import AgentId
from onsembl.sql.database import Connection

COLUMNS = """id, name, target, text, preset, "values", priority, limits, conversation, model, effort,
    permission_mode, rules, cron, time_zone, at, next_at, paused_at, paused_by_name, revision, created_at, updated_at,
    updated_by, updated_by_name"""

# The result of a run is the number of its commands in each state.
_RUN = """due_at, ran_at, command_id, group_id, error, skipped, coalesce((
    select jsonb_object_agg(state, number) from (
        select state, count(*) as number from commands
        where commands.id = schedule_runs.command_id or commands.group_id = schedule_runs.group_id
        group by state) as states), '{}') as counts"""


async def list_schedules(conn: Connection, schedule_id: UUID | None = None) -> list[DictRow]:
    """Every schedule by name, or the one of this id, with its `last` run."""
    cursor = await conn.execute(
        f"""select {COLUMNS}, (
                select to_jsonb(run) from (
                    select {_RUN} from schedule_runs where schedule_id = schedules.id order by due_at desc limit 1
                ) as run) as last
            from schedules
            where %(id)s::uuid is null or id = %(id)s
            order by lower(name)""",
        {"id": schedule_id},
    )
    return await cursor.fetchall()


async def lock(conn: Connection, schedule_id: UUID) -> DictRow | None:
    """One schedule, locked until the transaction ends, with the database's time as `now`."""
    cursor = await conn.execute(f"select {COLUMNS}, now() from schedules where id = %s for update", [schedule_id])
    return await cursor.fetchone()


async def take_due(conn: Connection) -> DictRow | None:
    """A due schedule that no other transaction has locked; it is locked until the transaction ends, with the database's
    time as `now`."""
    cursor = await conn.execute(
        f"""select {COLUMNS}, now() from schedules
            where next_at <= now()
            order by next_at
            for update skip locked
            limit 1"""
    )
    return await cursor.fetchone()


async def insert(
    conn: Connection, content: Mapping[str, Any], next_at: datetime, by: UUID, by_name: str
) -> UUID | None:
    """Insert a schedule; return its id, None when the name is taken. `content` has the columns that an operator
    sets."""
    cursor = await conn.execute(
        """insert into schedules (name, target, text, preset, "values", priority, limits, conversation, model,
               effort, permission_mode, rules, cron, time_zone, at, next_at, updated_by, updated_by_name)
           values (%(name)s, %(target)s, %(text)s, %(preset)s, %(values)s, %(priority)s, %(limits)s,
               %(conversation)s, %(model)s, %(effort)s, %(permission_mode)s, %(rules)s, %(cron)s, %(time_zone)s, %(at)s,
               %(next_at)s, %(by)s, %(by_name)s)
           on conflict do nothing
           returning id""",
        _parameters(content, next_at, by, by_name),
    )
    row = await cursor.fetchone()
    return row["id"] if row is not None else None


async def name_is_taken(conn: Connection, name: str, by_other_than: UUID) -> bool:
    """Whether another schedule has the name; case makes no difference."""
    cursor = await conn.execute(
        "select from schedules where lower(name) = lower(%s) and id <> %s", [name, by_other_than]
    )
    return await cursor.fetchone() is not None


async def update(
    conn: Connection, schedule_id: UUID, content: Mapping[str, Any], next_at: datetime | None, by: UUID, by_name: str
) -> None:
    """Change every column that an operator sets. The caller has locked the row."""
    await conn.execute(
        """update schedules
           set name = %(name)s, target = %(target)s, text = %(text)s, preset = %(preset)s, "values" = %(values)s,
               priority = %(priority)s, limits = %(limits)s, conversation = %(conversation)s, model = %(model)s,
               effort = %(effort)s, permission_mode = %(permission_mode)s, rules = %(rules)s, cron = %(cron)s,
               time_zone = %(time_zone)s, at = %(at)s, next_at = %(next_at)s,
               revision = revision + 1, updated_at = now(), updated_by = %(by)s, updated_by_name = %(by_name)s
           where id = %(id)s""",
        {"id": schedule_id, **_parameters(content, next_at, by, by_name)},
    )


async def pause(conn: Connection, schedule_id: UUID, by_name: str) -> None:
    """Pause a schedule: it does not run until it is resumed."""
    await conn.execute(
        """update schedules set paused_at = now(), paused_by_name = %s, next_at = null, revision = revision + 1
           where id = %s""",
        [by_name, schedule_id],
    )


async def resume(conn: Connection, schedule_id: UUID, next_at: datetime | None) -> None:
    """Undo `pause`."""
    await conn.execute(
        """update schedules set paused_at = null, paused_by_name = null, next_at = %s, revision = revision + 1
           where id = %s""",
        [next_at, schedule_id],
    )


async def delete(conn: Connection, schedule_id: UUID) -> None:
    """Delete a schedule and its runs; its commands stay."""
    await conn.execute("delete from schedules where id = %s", [schedule_id])


async def begin_run(conn: Connection, schedule_id: UUID, due_at: datetime) -> bool:
    """Claim one run; return whether it is the first for that time."""
    cursor = await conn.execute(
        "insert into schedule_runs (schedule_id, due_at) values (%s, %s) on conflict do nothing", [schedule_id, due_at]
    )
    return cursor.rowcount == 1


async def end_run(
    conn: Connection,
    schedule_id: UUID,
    due_at: datetime,
    *,
    command_id: UUID | None = None,
    group_id: UUID | None = None,
    error: str | None = None,
    skipped: Sequence[str] = (),
) -> None:
    """Record the command or the group of a run, or its error, and the names of the skipped agents."""
    await conn.execute(
        """update schedule_runs set command_id = %s, group_id = %s, error = %s, skipped = %s
           where schedule_id = %s and due_at = %s""",
        [command_id, group_id, error, list(skipped), schedule_id, due_at],
    )


async def still_queued(conn: Connection, schedule_id: UUID, agent_ids: Collection[AgentId]) -> set[AgentId]:
    """The agents among `agent_ids` in whose queue a command of the schedule waits."""
    cursor = await conn.execute(
        """select distinct agent_id from commands
           where agent_id = any(%(agents)s) and state = 'queued' and (
               exists (select from schedule_runs where schedule_id = %(id)s and command_id = commands.id)
               or exists (select from schedule_runs where schedule_id = %(id)s and group_id = commands.group_id))""",
        {"agents": list(agent_ids), "id": schedule_id},
    )
    return {AgentId(row["agent_id"]) for row in await cursor.fetchall()}


async def advance(conn: Connection, schedule_id: UUID, next_at: datetime | None) -> None:
    """Set the next time of a schedule."""
    await conn.execute("update schedules set next_at = %s where id = %s", [next_at, schedule_id])


async def runs(conn: Connection, schedule_id: UUID, limit: int) -> list[DictRow]:
    """The latest runs, newest first."""
    cursor = await conn.execute(
        f"select {_RUN} from schedule_runs where schedule_id = %s order by due_at desc limit %s", [schedule_id, limit]
    )
    return await cursor.fetchall()


async def forget_runs(conn: Connection, days: int) -> None:
    """Remove runs older than `days`, except the last run of each schedule."""
    await conn.execute(
        """delete from schedule_runs as old
           where ran_at < now() - make_interval(days => %s)
             and exists (
                 select from schedule_runs as newer
                 where newer.schedule_id = old.schedule_id and newer.due_at > old.due_at)""",
        [days],
    )


def _parameters(content: Mapping[str, Any], next_at: datetime | None, by: UUID, by_name: str) -> dict[str, Any]:
    return {
        **content,
        "target": Jsonb(content["target"]),
        "values": Jsonb(content["values"]),
        "limits": Jsonb(content["limits"]),
        "rules": Jsonb(content["rules"]),
        "next_at": next_at,
        "by": by,
        "by_name": by_name,
    }
