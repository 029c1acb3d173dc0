"""The `idempotency_keys` table: a repeated request with the same key creates nothing new."""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import OperatorId
from onsembl.sql.database import Connection


async def claim(conn: Connection, operator_id: OperatorId, key: str, request: bytes) -> DictRow | None:
    """Claim the key for the request with this hash; None when the claim succeeds.

    Otherwise the row of the earlier request: `request` and `made`. This waits while another request with the key is in
    progress.
    """
    cursor = await conn.execute(
        """insert into idempotency_keys (operator_id, key, request) values (%s, %s, %s)
           on conflict do nothing""",
        [operator_id, key, request],
    )
    if cursor.rowcount == 1:
        return None
    cursor = await conn.execute(
        "select request, made from idempotency_keys where operator_id = %s and key = %s", [operator_id, key]
    )
    return await cursor.fetchone()


async def settle(conn: Connection, operator_id: OperatorId, key: str, made: UUID) -> None:
    """Record the id that the request has created."""
    await conn.execute(
        "update idempotency_keys set made = %s where operator_id = %s and key = %s", [made, operator_id, key]
    )


async def forget(conn: Connection, hours: int) -> None:
    """Remove keys older than `hours`."""
    await conn.execute("delete from idempotency_keys where created_at < now() - make_interval(hours => %s)", [hours])
