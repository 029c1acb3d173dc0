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
    conn: Connection,
    group: DictRow,
    agent_ids: Sequence[AgentId],
    request_id: str | None,
    conversation: str,
    settings: Mapping[str, object],
) -> list[DictRow]:
    """Add a queued command of the group for each agent, in its latest or a new conversation; return the commands' rows.

    An agent that does not take the settings gets no command.
    """
    # A permission mode that is set at the same time waits, and then applies to these commands, too.
    await conn.execute("select from agents where id = any(%s) order by id for share", [list(agent_ids)])
    cursor = await conn.execute(
        f"""insert into commands
                (agent_id, text, priority, requested_by, requested_by_name, group_id, preset, request_id, limits,
                 conversation_id, turn)
            select agent_id, %(text)s, %(priority)s, %(by)s, %(by_name)s, %(group)s, %(preset)s, %(request)s,
                %(limits)s, next.conversation_id, next.turn
            from unnest(%(agents)s::uuid[]) as agent_id
            cross join lateral next_turn(agent_id, %(conversation)s, %(text)s, %(settings)s) as next
            returning {COMMAND_COLUMNS}""",
        {
            "agents": list(agent_ids),
            "text": group["text"],
            "priority": group["priority"],
            "by": group["requested_by"],
            "by_name": group["requested_by_name"],
            "group": group["id"],
            "preset": group["preset"],
            "request": request_id,
            "limits": Jsonb(group["limits"]),
            "conversation": conversation,
            "settings": Jsonb(dict(settings)),
        },
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
