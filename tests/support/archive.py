"""Reads the archive."""

from __future__ import annotations

from uuid import UUID

from support.agents import until

from onsembl.protocol.ids import StreamId
from onsembl.sql import archive
from onsembl.sql.database import connect


async def archived_bytes(database_url: str, stream_id: str) -> bytes:
    """All bytes of a stream. The archive must have each byte once and in order."""
    seen = bytearray()
    async with await connect(database_url, role="onsembl_api") as conn:
        async for piece in archive.read(conn, StreamId(UUID(stream_id)), 0):
            assert piece.start == len(seen)
            seen += piece.data
    return bytes(seen)


async def until_archived(database_url: str, stream_id: str, upto: int) -> bytes:
    """Wait until the archive has the stream up to this offset, and return its bytes."""

    async def archived() -> bool:
        async with await connect(database_url, role="onsembl_api") as conn:
            return await archive.end(conn, StreamId(UUID(stream_id))) >= upto

    await until(archived, "the archive")
    return await archived_bytes(database_url, stream_id)


async def continued(database_url: str, stream_id: str) -> bool:
    """Whether the agent of this stream has begun another one after output, since bytes of the earlier one were lost."""
    async with await connect(database_url) as conn:
        cursor = await conn.execute(
            """select 1 from streams join archive_ends on archive_ends.stream_id = streams.continues
               where archive_ends.ended > 0 and agent_id = (select agent_id from streams where id = %s)""",
            [stream_id],
        )
        return await cursor.fetchone() is not None
