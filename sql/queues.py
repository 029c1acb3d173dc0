"""The `commands` table as agents' lines: what waits, in which order, and how long it usually takes."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import to_builtins
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.queue_order import QueueEntry
from onsembl.sql.commands import COLUMNS
from onsembl.sql.database import Connection


async def waiting(conn: Connection, agent_id: AgentId) -> list[QueueEntry]:
    """The line in the order in which it runs."""
    cursor = await conn.execute(
        """select id, priority, coalesce(position, seq)::double precision as position from commands
           where agent_id = %s and state = 'queued'
           order by priority, coalesce(position, seq), seq""",
        [agent_id],
    )
    return [QueueEntry(row["id"], row["priority"], row["position"]) for row in await cursor.fetchall()]


async def newest(conn: Connection) -> int:
    """The highest `seq` there is."""
    cursor = await conn.execute("select coalesce(max(seq), 0) as seq from commands")
    row = await cursor.fetchone()
    assert row is not None
    return row["seq"]


async def put_at(conn: Connection, entries: Collection[QueueEntry]) -> None:
    """Move waiting commands. The caller holds their agent's row."""
    await conn.execute(
        """update commands set priority = moved.priority, position = moved.position, revision = revision + 1
           from unnest(%s::uuid[], %s::smallint[], %s::double precision[]) as moved (id, priority, position)
           where commands.id = moved.id and state = 'queued'""",
        [
            [entry.command_id for entry in entries],
            [entry.priority for entry in entries],
            [entry.position for entry in entries],
        ],
    )


async def edit(
    conn: Connection,
    command_id: CommandId,
    text: str | None,
    priority: int | None,
    limits: CommandLimits | None,
    revision: int | None,
) -> DictRow | None:
    """Change what waits; what is None stays. The row; None when it waits no more, or is not at `revision` any more.

    With another priority it goes to where its age puts it.
    """
    cursor = await conn.execute(
        f"""update commands
            set text = coalesce(%(text)s::text, text), limits = coalesce(%(limits)s::jsonb, limits),
                position = case when coalesce(%(priority)s::smallint, priority) = priority then position end,
                priority = coalesce(%(priority)s::smallint, priority),
                revision = revision + 1
            where id = %(id)s and state = 'queued' and (%(revision)s::integer is null or revision = %(revision)s)
            returning {COLUMNS}""",
        {
            "id": command_id,
            "text": text,
            "priority": priority,
            "limits": Jsonb(to_builtins(limits)) if limits is not None else None,
            "revision": revision,
        },
    )
    return await cursor.fetchone()


async def typical_seconds(conn: Connection, agent_id: AgentId) -> float | None:
    """The median of how long the agent's latest commands ran; None before one has ended."""
    cursor = await conn.execute(
        """select percentile_cont(0.5) within group (order by extract(epoch from ended_at - started_at)) as seconds
           from (
               select started_at, ended_at from commands
               where agent_id = %s and state in ('succeeded', 'failed') and started_at is not null
               order by seq desc limit 20) as latest""",
        [agent_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    return float(row["seconds"]) if row["seconds"] is not None else None


async def occupied_for(conn: Connection, agent_id: AgentId, typical: float) -> float:
    """In how many seconds the agent is free, if what it runs takes as long as is typical; 0 when nobody can tell."""
    cursor = await conn.execute(
        """select extract(epoch from now() - coalesce(started_at, now())) as seconds from commands
           where agent_id = %s and state in ('dispatched', 'running')""",
        [agent_id],
    )
    row = await cursor.fetchone()
    return max(typical - float(row["seconds"]), 0.0) if row is not None else 0.0
