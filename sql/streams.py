"""The `streams` table: one terminal's bytes, from offset 0."""

from __future__ import annotations

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.sql.database import Connection


async def create(conn: Connection, agent_id: AgentId) -> StreamId:
    """Begin a new terminal for the agent."""
    cursor = await conn.execute("insert into streams (agent_id) values (%s) returning id", [agent_id])
    row = await cursor.fetchone()
    assert row is not None
    return StreamId(row["id"])
