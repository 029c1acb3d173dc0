"""The `operators` table: people who have signed in, as the audit log and the command list name them."""

from __future__ import annotations

from onsembl.protocol.ids import OperatorId
from onsembl.sql.database import Connection


async def seen(conn: Connection, operator_id: OperatorId, email: str, role: str) -> bool:
    """Note an operator whose token was accepted; False when the operator is disabled here."""
    cursor = await conn.execute(
        """insert into operators (id, email, role) values (%s, %s, %s)
           on conflict (id) do update set email = excluded.email, role = excluded.role
           returning disabled_at is null as enabled""",
        [operator_id, email, role],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["enabled"]
