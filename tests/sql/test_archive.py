"""The archive's table holds every byte once and in order, with several writers and over several days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.sql import archive
from onsembl.sql.archive_rows import MAX_ROW_BYTES, ArchiveRow, pack, unpack
from onsembl.sql.database import Connection, connect

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC).timestamp()


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, role="onsembl_api") as conn:
        yield conn


async def new_stream(conn: Connection) -> tuple[AgentId, StreamId]:
    cursor = await conn.execute(
        "insert into agents (name, kind) values (%s, 'shell') returning id", [f"agent-{uuid4().hex}"]
    )
    row = await cursor.fetchone()
    assert row is not None
    agent_id = AgentId(row["id"])
    stream_id = await archive.create_stream(conn, agent_id)
    await conn.commit()
    return agent_id, stream_id


def rows_of(stream_id: StreamId, start: int, *chunks: bytes, at: float = NOON) -> list[ArchiveRow]:
    return pack(stream_id, start, chunks, [at + index for index in range(len(chunks))])


async def write(conn: Connection, rows: list[ArchiveRow]) -> dict[StreamId, int]:
    ends = await archive.write(conn, rows)
    await conn.commit()
    return ends


async def content(conn: Connection, stream_id: StreamId, start: int = 0, end: int | None = None) -> bytes:
    seen = b""
    async for piece in archive.read(conn, stream_id, start, end):
        assert piece.start == start + len(seen)
        seen += piece.data
    return seen


async def test_what_is_written_is_read_with_its_times(conn):
    """Archived bytes are read unchanged and with their times, for any range."""
    _, stream_id = await new_stream(conn)
    ends = await write(conn, rows_of(stream_id, 0, b"abc", b"defg", b"h"))
    assert ends == {stream_id: 8}
    await write(conn, rows_of(stream_id, 8, b"ijk", at=NOON + 60))
    await conn.commit()
    pieces = [piece async for piece in archive.read(conn, stream_id, 0)]
    assert [(piece.start, piece.data) for piece in pieces] == [(0, b"abc"), (3, b"defg"), (7, b"h"), (8, b"ijk")]
    assert [piece.at.timestamp() - NOON for piece in pieces] == [0, 1, 2, 60]
    everything = b"abcdefghijk"
    for start in range(12):
        for end in range(start, 12):
            assert await content(conn, stream_id, start, end) == everything[start:end]
    assert await archive.bounds(conn, stream_id) == (0, 11)
    assert await archive.bounds(conn, StreamId(uuid4())) is None


async def test_rows_that_do_not_go_on_at_the_end_are_left_out(conn):
    """A row that does not continue its stream at the end is not written, and the rows of other streams are."""
    (_, one), (_, two) = await new_stream(conn), await new_stream(conn)
    await write(conn, rows_of(one, 0, b"0123"))
    for start in (0, 2, 5):
        ends = await write(conn, [*rows_of(one, start, b"xyz"), *rows_of(two, 0, b"a")])
        assert ends[one] == 4
    assert await content(conn, one) == b"0123"
    assert await content(conn, two) == b"a"


async def test_two_writers_of_one_stream_write_each_byte_once(database_url, conn):
    """Of two writers with the same bytes, each byte is written once, and each writer learns the archive's end and
    continues there."""
    _, stream_id = await new_stream(conn)
    whole = bytes(range(256)) * 8

    async def writer(step: int) -> None:
        async with await connect(database_url, role="onsembl_api") as mine:
            at = 0
            while at < len(whole):
                async with mine.transaction():
                    ends = await archive.write(mine, rows_of(stream_id, at, whole[at : at + step]))
                at = ends[stream_id]

    await asyncio.gather(writer(7), writer(31), writer(100))
    assert await content(conn, stream_id) == whole


async def test_a_removed_streams_rows_are_passed_over(conn):
    """Rows of a stream whose agent was deleted are skipped."""
    gone = StreamId(uuid4())
    assert await write(conn, rows_of(gone, 0, b"x")) == {}
    now = datetime.now(UTC)
    await archive.write_sizes(conn, [archive.SizeChange(gone, 0, now, 80, 24)])


async def test_a_time_leads_to_a_place(conn):
    """A time leads to the first byte of this time or later."""
    _, stream_id = await new_stream(conn)
    await write(conn, rows_of(stream_id, 0, b"abc", b"def", b"ghi"))
    await write(conn, rows_of(stream_id, 9, b"jkl", at=NOON + 60))
    for seconds, offset in ((-5, 0), (0, 0), (0.5, 3), (1, 3), (2, 6), (2.5, 9), (60, 9), (61, 12)):
        at = datetime.fromtimestamp(NOON + seconds, UTC)
        assert await archive.offset_at(conn, stream_id, at) == offset, seconds


async def test_what_an_agent_takes_on_disk_is_known(conn):
    """An agent's disk usage counts all of its streams, after compression."""
    agent_id, stream_id = await new_stream(conn)
    assert await archive.usage(conn) == {}
    rows = rows_of(stream_id, 0, b"a" * 100_000, b"b" * 100_000)
    await write(conn, rows)
    stored = sum(len(row.data) + len(row.pieces) for row in rows)
    assert await archive.usage(conn) == {agent_id: stored}
    assert stored < 2_000


async def test_the_terminals_sizes_are_kept(conn):
    """The terminal's sizes are stored, and the last size at an offset counts."""
    _, stream_id = await new_stream(conn)
    now = datetime.now(UTC)
    for start, columns in ((0, 80), (7, 100), (7, 120)):
        await archive.write_sizes(conn, [archive.SizeChange(stream_id, start, now, columns, 24)])
    assert [(size.start, size.columns) for size in await archive.sizes(conn, stream_id)] == [(0, 80), (7, 120)]


async def partitions(conn: Connection) -> list[str]:
    cursor = await conn.execute(
        "select relname from pg_class join pg_inherits on inhrelid = oid where inhparent = 'archive'::regclass"
    )
    return sorted(row["relname"] for row in await cursor.fetchall())


async def test_a_day_without_a_partition_takes_bytes_and_gets_one_later(conn):
    """A day without a partition accepts bytes, and these move when the partition is made."""
    _, stream_id = await new_stream(conn)
    await write(conn, rows_of(stream_id, 0, b"old"))
    await write(conn, rows_of(stream_id, 3, b"older", at=NOON - 24 * 3600))
    assert set(await archive.make_partitions(conn, 3)) == {"archive_20260504", "archive_20260505"}
    assert await archive.make_partitions(conn, 3) == []
    cursor = await conn.execute("select count(*) as left from onsembl.archive_default")
    assert await cursor.fetchone() == {"left": 0}
    assert await content(conn, stream_id) == b"oldolder"


async def test_old_partitions_are_dropped_whole(conn):
    """Old partitions are dropped whole; the stream then begins later, and its archived end stays."""
    _, stream_id = await new_stream(conn)
    today = datetime.now(UTC)
    for days, text in ((40, b"first"), (31, b"second"), (30, b"third"), (0, b"fourth")):
        start = await archive.end(conn, stream_id)
        await write(conn, rows_of(stream_id, start, text, at=(today - timedelta(days=days)).timestamp()))
    await archive.make_partitions(conn, 3)
    await conn.commit()
    assert len(await archive.drop_partitions(conn, 30)) == 2
    assert await archive.bounds(conn, stream_id) == (11, 22)
    assert await content(conn, stream_id, 11) == b"thirdfourth"
    kept = await partitions(conn)
    assert f"archive_{today - timedelta(days=30):%Y%m%d}" in kept and len(kept) == 6
    usage = await archive.usage(conn)
    assert sum(usage.values()) > 0


async def test_every_partition_is_closed_to_browsers_and_to_changes(database_url, conn):
    """Every partition has row-level security, and the server's role may only read and insert."""
    await conn.rollback()
    for name in (*await partitions(conn), "archive", "archive_ends", "archive_days", "stream_sizes"):
        cursor = await conn.execute("select relrowsecurity from pg_class where oid = %s::regclass", [name])
        assert await cursor.fetchone() == {"relrowsecurity": True}, name
    await conn.commit()
    for statement in ("update archive set start = 1", "delete from archive", "truncate archive"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute(statement)
        await conn.rollback()


def test_a_flood_of_small_chunks_is_few_pieces_and_a_long_one_is_a_row_by_itself():
    """Small chunks are joined to rows of a bounded size, and a longer chunk is a row of its own."""
    stream_id = StreamId(UUID(int=1))
    small = pack(stream_id, 10, [b"x"] * 5000, [NOON + index / 1e5 for index in range(5000)])
    assert len(small) == 1
    assert len(list(unpack(10, small[0].at, small[0].pieces, small[0].data))) == 50
    big = [b"y" * (MAX_ROW_BYTES + 1), b"z" * 100_000, b"z" * 100_000, b"z" * 100_000]
    rows = pack(stream_id, 0, big, [NOON] * 4)
    assert [row.length for row in rows] == [MAX_ROW_BYTES + 1, 200_000, 100_000]
    assert [row.start for row in rows] == [0, MAX_ROW_BYTES + 1, MAX_ROW_BYTES + 200_001]
