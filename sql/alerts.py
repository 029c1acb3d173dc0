"""The `alerts` table: what an operator should look at."""

from __future__ import annotations

from typing import Literal

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId


async def raise_alert(
    conn: AsyncConnection[DictRow], kind: Literal["refresh_token_reused"], agent_id: AgentId, text: str
) -> None:
    """Add an alert; the dashboard shows it until somebody acknowledges it."""
    await conn.execute("insert into alerts (kind, agent_id, text) values (%s, %s, %s)", [kind, agent_id, text])
