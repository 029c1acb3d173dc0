"""The `operators` table: people who have signed in, with the names that the audit log and the command list show, and
whether they are disabled here."""

from __future__ import annotations

from uuid import UUID

from onsembl.protocol.ids import OperatorId
from onsembl.sql.database import Connection


async def seen(conn: Connection, operator_id: OperatorId, email: str, role: str) -> bool:
    """Record an operator whose token was accepted; False when the operator is disabled here."""
    cursor = await conn.execute(
        """insert into operators (id, email, role) values (%s, %s, %s)
           on conflict (id) do update set email = excluded.email, role = excluded.role
           returning disabled_at is null as enabled""",
        [operator_id, email, role],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["enabled"]


async def disable(conn: Connection, operator_id: UUID, email: str, role: str) -> None:
    """Disable an operator, including one who has never signed in."""
    await conn.execute(
        """insert into operators (id, email, role, disabled_at) values (%s, %s, %s, now())
           on conflict (id) do update set disabled_at = coalesce(operators.disabled_at, now())""",
        [operator_id, email, role],
    )


async def enable(conn: Connection, operator_id: UUID) -> None:
    """Undo `disable`."""
    await conn.execute("update operators set disabled_at = null where id = %s", [operator_id])


async def disabled(conn: Connection) -> set[OperatorId]:
    """The disabled operators."""
    cursor = await conn.execute("select id from operators where disabled_at is not null")
    return {OperatorId(row["id"]) for row in await cursor.fetchall()}


async def may_command(conn: Connection, operator_id: OperatorId) -> bool:
    """Whether a known operator may send commands, by the operator's role at the last request."""
    cursor = await conn.execute(
        "select from operators where id = %s and disabled_at is null and role <> 'viewer'", [operator_id]
    )
    return await cursor.fetchone() is not None
