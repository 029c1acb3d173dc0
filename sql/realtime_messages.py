"""The table `realtime.messages`: broadcasts that the database sends, and the policies of private topics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

PUBLICATION = "supabase_realtime_messages_publication"


async def maintain(conn: Connection) -> None:
    """Create the partitions of the coming days and drop the partitions of three days ago."""
    await conn.execute("select realtime.maintain_messages()")


async def readable(conn: Connection, topic: str, role: str, claims: str, extensions: Sequence[str]) -> list[str]:
    """Which extensions (`broadcast`, `presence`) these claims may read on a topic. Raises psycopg.Error when a policy
    fails."""
    cursor = await conn.execute(
        "select realtime.readable(%s, %s, %s, %s::text[]) as extensions", [topic, role, claims, list(extensions)]
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["extensions"]


async def writable(conn: Connection, topic: str, role: str, claims: str, extensions: Sequence[str]) -> list[str]:
    """Which extensions these claims may write on a topic. Raises psycopg.Error when a policy fails."""
    cursor = await conn.execute(
        "select realtime.writable(%s, %s, %s, %s::text[]) as extensions", [topic, role, claims, list(extensions)]
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["extensions"]


async def newest(conn: Connection, topic: str, since: datetime, limit: int) -> list[DictRow]:
    """The newest private broadcasts of a topic since a time, oldest first: `id`, `event`, `payload`, `binary_payload`.

    Partitions of future days are not read.
    """
    cursor = await conn.execute(
        """select id, event, payload::text as payload, binary_payload
           from realtime.messages
           where topic = %s and private and extension = 'broadcast' and inserted_at >= %s
               and inserted_at < (now() at time zone 'utc') + interval '1 minute'
           order by inserted_at desc
           limit %s""",
        [topic, since.astimezone(UTC).replace(tzinfo=None), limit],
    )
    return (await cursor.fetchall())[::-1]
