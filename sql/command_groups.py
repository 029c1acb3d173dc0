"""The `command_groups` table: one request for several agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import to_builtins
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.limits import NO_LIMITS, CommandLimits
from onsembl.sql.commands import COLUMNS as COMMAND_COLUMNS
from onsembl.sql.database import Connection

COLUMNS = "id, seq, text, preset, priority, limits, target, requested_by, requested_by_name, created_at"


async def insert(
    conn: Connection,
    text: str,
    priority: int,
    target: Mapping[str, object],
    requested_by: UUID | None,
    requested_by_name: str,
    preset: str | None = None,
    limits: CommandLimits = NO_LIMITS,
) -> DictRow:
    """Insert a group."""
    cursor = await conn.execute(
        f"""insert into command_groups (text, priority, target, requested_by, requested_by_name, preset, limits)
            values (%s, %s, %s, %s, %s, %s, %s)
            returning {COLUMNS}""",
        [text, priority, Jsonb(dict(target)), requested_by, requested_by_name, preset, Jsonb(to_builtins(limits))],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def add_commands(
    conn: Connection, group: DictRow, agent_ids: Sequence[AgentId], request_id: str | None
) -> list[DictRow]:
    """Add a queued command of the group for each agent; return the commands' rows."""
    cursor = await conn.execute(
        f"""insert into commands
                (agent_id, text, priority, requested_by, requested_by_name, group_id, preset, request_id, limits)
            select unnest(%s::uuid[]), %s, %s, %s, %s, %s, %s, %s, %s
            returning {COMMAND_COLUMNS}""",
        [
            list(agent_ids),
            group["text"],
            group["priority"],
            group["requested_by"],
            group["requested_by_name"],
            group["id"],
            group["preset"],
            request_id,
            Jsonb(group["limits"]),
        ],
    )
    return await cursor.fetchall()


async def get(conn: Connection, group_id: UUID) -> DictRow | None:
    """One group's row."""
    cursor = await conn.execute(f"select {COLUMNS} from command_groups where id = %s", [group_id])
    return await cursor.fetchone()


async def page(conn: Connection, before: int | None, limit: int) -> list[DictRow]:
    """Groups with a `seq` below `before`, newest first."""
    cursor = await conn.execute(
        f"""select {COLUMNS} from command_groups
            where %(before)s::bigint is null or seq < %(before)s
            order by seq desc limit %(limit)s""",
        {"before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def counts(conn: Connection, group_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """The number of commands in each state, by group."""
    cursor = await conn.execute(
        "select group_id, state, count(*) from commands where group_id = any(%s) group by group_id, state",
        [list(group_ids)],
    )
    found: dict[UUID, dict[str, int]] = {group_id: {} for group_id in group_ids}
    for row in await cursor.fetchall():
        found[row["group_id"]][row["state"]] = row["count"]
    return found


async def commands_of(conn: Connection, group_id: UUID) -> list[DictRow]:
    """Every command of the group, oldest first."""
    cursor = await conn.execute(f"select {COMMAND_COLUMNS} from commands where group_id = %s order by seq", [group_id])
    return await cursor.fetchall()


async def unfinished(conn: Connection, group_id: UUID) -> list[CommandId]:
    """The unfinished commands of the group."""
    cursor = await conn.execute(
        "select id from commands where group_id = %s and state in ('queued', 'dispatched', 'running') order by seq",
        [group_id],
    )
    return [CommandId(row["id"]) for row in await cursor.fetchall()]
