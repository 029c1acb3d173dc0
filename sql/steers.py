"""Texts that are sent into a running turn: queued commands, until the CLI has taken them or the turn has ended."""

from __future__ import annotations

from collections.abc import Collection

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection

STILL_EDITABLE = "steer_state is distinct from 'given'"
"""The condition on a queued command: its agent has not been given the text."""


async def give(conn: Connection, agent_ids: Collection[AgentId]) -> list[DictRow]:
    """Mark the texts that wait for the running turns of these agents as given, and return them in their order, with
    those that were given before: the caller sends them. From now on they can be neither edited nor cancelled."""
    cursor = await conn.execute(
        """with given as (
               update commands as steer set steer_state = 'given'
               from commands as turn
               where turn.id = steer.steers and turn.agent_id = any(%s) and turn.state = 'running'
                 and turn.cancel_requested_at is null
                 and steer.state = 'queued' and steer.steer_state in ('waiting', 'given')
               returning steer.id, steer.steers, steer.text, steer.request_id, steer.position, steer.seq)
           select * from given order by coalesce(position, seq), seq""",
        [list(agent_ids)],
    )
    return await cursor.fetchall()


async def taken(
    conn: Connection, command_id: CommandId, steer_id: CommandId, step: int, channel: str, agent: Actor
) -> None:
    """Record that the command's turn has taken a text, also in the audit log, and notify `channel`; once."""
    await conn.execute(
        "select take_steer(%s, %s, %s, %s, %s, %s, %s)",
        [agent.id, command_id, steer_id, step, channel, agent.name, agent.address],
    )
