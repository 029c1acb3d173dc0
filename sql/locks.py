"""Advisory locks, each held by one process at a time."""

from __future__ import annotations

from psycopg import AsyncConnection
from psycopg.rows import DictRow


async def take(conn: AsyncConnection[DictRow], name: str) -> None:
    """Wait for the lock of this name, and hold it until the transaction ends."""
    await conn.execute("select pg_advisory_xact_lock(hashtextextended('onsembl:' || %s, 0))", [name])


async def try_take(conn: AsyncConnection[DictRow], name: str) -> bool:
    """Take the lock of this name until the transaction ends; False when another transaction holds it."""
    cursor = await conn.execute(
        "select pg_try_advisory_xact_lock(hashtextextended('onsembl:' || %s, 0)) as taken", [name]
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["taken"]
