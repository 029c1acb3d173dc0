"""The `signing_keys` table: the keys that sign agents' access tokens."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.sql.database import Connection


async def live(conn: Connection) -> list[DictRow]:
    """Keys that verify, newest first; the first one signs."""
    cursor = await conn.execute(
        "select kid, private_pem from signing_keys where retired_at is null order by created_at desc, kid"
    )
    return await cursor.fetchall()


async def add_first(conn: Connection, kid: str, private_pem: str) -> None:
    """Keep this key if there is none: of several instances that start at once, one's key wins."""
    await conn.execute("lock table signing_keys in share row exclusive mode")
    await conn.execute(
        """insert into signing_keys (kid, private_pem)
           select %s, %s where not exists (select from signing_keys where retired_at is null)""",
        [kid, private_pem],
    )
