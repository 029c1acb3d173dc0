"""Turns as rows, with the times of their steps: for what follows from an agent's pauses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.ids import AgentId
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection

ANN = Actor("operator", uuid4(), "ann@example.org")


async def had_a_turn(conn: Connection, agent_id: AgentId, pauses: Sequence[int]) -> None:
    """Let the agent have had a turn with these pauses between its steps, in seconds."""
    command = (await send(conn, CommandContent(text="work"), agent_id, ANN)).command
    assert command is not None
    await conn.execute("update commands set state = 'succeeded', ended_at = now() where id = %s", [command["id"]])
    for number in range(len(pauses) + 1):
        await _step(conn, command["id"], number + 1, sum(pauses[:number]))


async def falls_silent(conn: Connection, agent_id: AgentId, seconds: int) -> None:
    """Let the running turn of the agent have had its last step so long ago."""
    cursor = await conn.execute(
        """update commands set state = 'running', started_at = now() - interval '1 h'
           where agent_id = %s and state in ('dispatched', 'running') returning id""",
        [agent_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    await _step(conn, row["id"], 1, 0)
    await conn.execute(
        """insert into turn_progress
               (command_id, agent_id, steps, number, kind, name, title, status, changed, updated_at)
           values (%s, %s, 1, 1, 'tool', 'Bash', 'npm test', 'in_progress', 1, now() - %s)
           on conflict (command_id) do update set updated_at = excluded.updated_at""",
        [row["id"], agent_id, timedelta(seconds=seconds)],
    )


async def _step(conn: Connection, command_id: UUID, number: int, after: int) -> None:
    await conn.execute(
        """insert into steps (at, command_id, number, changed, revision, kind, name, title, status, text,
               result, text_omitted, result_omitted, denied, started_at, output_start, output_end)
           select created_at, id, %(number)s, %(number)s, 1, 'tool', 'Bash', 'npm test', 'in_progress', '', '',
               0, 0, false, now() - interval '1 h' + %(after)s, 0, 0
           from commands where id = %(id)s
           on conflict do nothing""",
        {"number": number, "after": timedelta(seconds=after), "id": command_id},
    )
