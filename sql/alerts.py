"""The `alerts` table: conditions that need an operator's attention."""

from __future__ import annotations

from typing import Literal

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, OperatorId

Kind = Literal[
    "refresh_token_reused", "recovery_secret_reused", "unreadable_value", "agent_problem", "database_nearly_full"
]


async def raise_alert(conn: AsyncConnection[DictRow], kind: Kind, agent_id: AgentId, text: str) -> None:
    """Add an alert; the dashboard shows it until an operator acknowledges it."""
    await conn.execute("insert into alerts (kind, agent_id, text) values (%s, %s, %s)", [kind, agent_id, text])


async def raise_once(conn: AsyncConnection[DictRow], kind: Kind, text: str) -> None:
    """Add an alert about no agent, unless the same alert is still unacknowledged."""
    await conn.execute(
        """insert into alerts (kind, text)
           select %(kind)s, %(text)s
           where not exists (
               select from alerts where kind = %(kind)s and text = %(text)s and acknowledged_at is null)""",
        {"kind": kind, "text": text},
    )


async def raise_after_days(conn: AsyncConnection[DictRow], kind: Kind, text: str, days: int) -> None:
    """Add an alert about no agent, unless one of this kind was raised within the last days, acknowledged or not."""
    await conn.execute(
        """insert into alerts (kind, text)
           select %(kind)s, %(text)s
           where not exists (
               select from alerts where kind = %(kind)s and at > now() - %(days)s * interval '1 day')""",
        {"kind": kind, "text": text, "days": days},
    )


async def raise_for_agent_once(conn: AsyncConnection[DictRow], kind: Kind, agent_id: AgentId, text: str) -> None:
    """Add an alert about an agent, unless one of this kind about it is still unacknowledged."""
    await conn.execute(
        """insert into alerts (kind, agent_id, text)
           select %(kind)s, %(agent_id)s, %(text)s
           where not exists (
               select from alerts where kind = %(kind)s and agent_id = %(agent_id)s and acknowledged_at is null)""",
        {"kind": kind, "agent_id": agent_id, "text": text},
    )


COLUMNS = "id, at, kind, agent_id, text, acknowledged_at, acknowledged_by"


async def recent(conn: AsyncConnection[DictRow]) -> list[DictRow]:
    """The unacknowledged alerts, newest first, then the latest acknowledged alerts."""
    cursor = await conn.execute(
        f"select {COLUMNS} from alerts order by acknowledged_at is not null, at desc, id desc limit 200"
    )
    return await cursor.fetchall()


async def acknowledge(
    conn: AsyncConnection[DictRow], alert_id: int, operator_id: OperatorId
) -> tuple[DictRow | None, bool]:
    """Acknowledge an alert; return its row (None when it does not exist), and whether it was unacknowledged before."""
    cursor = await conn.execute(
        f"""update alerts set acknowledged_at = now(), acknowledged_by = %s
            where id = %s and acknowledged_at is null returning {COLUMNS}""",
        [operator_id, alert_id],
    )
    row = await cursor.fetchone()
    if row is not None:
        return row, True
    cursor = await conn.execute(f"select {COLUMNS} from alerts where id = %s", [alert_id])
    return await cursor.fetchone(), False
