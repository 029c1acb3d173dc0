"""The `commands` table as agents' queues: queued commands, their order, and the estimate of their start."""

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
from onsembl.sql.steers import STILL_EDITABLE
from onsembl.sql.steps import LAST_LINE

SHOWN_CHARACTERS = 200
"""How much of a command's text stands in the list of agents."""


async def queued(conn: Connection, agent_id: AgentId) -> list[QueueEntry]:
    """The agent's queued commands, in the order in which they run."""
    cursor = await conn.execute(
        """select id, priority, coalesce(position, seq)::double precision as position from commands
           where agent_id = %s and state = 'queued'
           order by priority, coalesce(position, seq), seq""",
        [agent_id],
    )
    return [QueueEntry(row["id"], row["priority"], row["position"]) for row in await cursor.fetchall()]


async def lengths(conn: Connection, agent_ids: Collection[AgentId] | None = None) -> dict[AgentId, int]:
    """How many commands wait in the queues of these agents, or of all; an agent with none is missing."""
    cursor = await conn.execute(
        """select agent_id, count(*) as queued from commands
           where state = 'queued' and (%(ids)s::uuid[] is null or agent_id = any(%(ids)s)) group by agent_id""",
        {"ids": list(agent_ids) if agent_ids is not None else None},
    )
    return {AgentId(row["agent_id"]): row["queued"] for row in await cursor.fetchall()}


async def last_ended(conn: Connection, agent_ids: Collection[AgentId] | None = None) -> dict[AgentId, DictRow]:
    """The command of each of these agents, or of all, that has ended last: its result, the beginning of its text, its
    last line and its cost."""
    cursor = await conn.execute(
        f"""select agents.id as agent, last.*, nullif({LAST_LINE}, '') as last_line
           from agents cross join lateral (
               select id, state, denied, left(text, %(characters)s) as text, exit_code, signal, ended_at,
                      (usage ->> 'cost_usd')::float8 as cost_usd,
                      coalesce(usage -> 'partial' = 'true', false) as partial
               from commands
               where agent_id = agents.id and ended_at is not null
               order by ended_at desc, seq desc limit 1
           ) as last
           left join turn_progress on turn_progress.command_id = last.id
           where %(ids)s::uuid[] is null or agents.id = any(%(ids)s)""",
        {"ids": list(agent_ids) if agent_ids is not None else None, "characters": SHOWN_CHARACTERS},
    )
    return {AgentId(row.pop("agent")): row for row in await cursor.fetchall()}


async def newest(conn: Connection) -> int:
    """The highest `seq` of all commands; 0 when there are none."""
    cursor = await conn.execute("select coalesce(max(seq), 0) as seq from commands")
    row = await cursor.fetchone()
    assert row is not None
    return row["seq"]


async def put_at(conn: Connection, entries: Collection[QueueEntry]) -> None:
    """Write the new places of queued commands. The caller has locked their agents' rows."""
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
    """Change a queued command; a field that is None stays. Its row; None when the command is no longer queued, or has
    another revision than `revision`.

    A command with a new priority takes the place of its age among the commands of that priority.
    """
    cursor = await conn.execute(
        f"""update commands
            set text = coalesce(%(text)s::text, text), limits = coalesce(%(limits)s::jsonb, limits),
                position = case when coalesce(%(priority)s::smallint, priority) = priority then position end,
                priority = coalesce(%(priority)s::smallint, priority),
                revision = revision + 1
            where id = %(id)s and state = 'queued' and (%(revision)s::integer is null or revision = %(revision)s)
              and {STILL_EDITABLE}
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
    """The median duration of the agent's latest 20 commands; None before the first has ended."""
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
    """The seconds until the agent is free, if its running command takes `typical` seconds; 0 when no command runs."""
    cursor = await conn.execute(
        """select extract(epoch from now() - coalesce(started_at, now())) as seconds from commands
           where agent_id = %s and state in ('dispatched', 'running')""",
        [agent_id],
    )
    row = await cursor.fetchone()
    return max(typical - float(row["seconds"]), 0.0) if row is not None else 0.0
