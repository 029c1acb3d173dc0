"""The `archive` table and what goes with it: every byte of every stream once, in order, with its time.

Written by `write` alone, by whichever process holds bytes that are missing: `archive_ends` says where each stream's
archive ends, and its row is held while a stream is continued there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.sql.archive_rows import ArchiveRow, Piece, unpack
from onsembl.sql.database import Connection

READ_ROWS = 16
"""Rows fetched at once by a reader: 4 MiB at most."""


@dataclass(frozen=True, slots=True)
class SizeChange:
    """From this offset on a stream's terminal has this size, in cells."""

    stream_id: StreamId
    start: int
    at: datetime
    columns: int
    rows: int


async def write(conn: Connection, rows: Sequence[ArchiveRow]) -> dict[StreamId, int]:
    """Add `rows`, those of one stream in order; where the archive of each stream ends then.

    Rows that do not go on exactly where the archive ends are left out, with those of their stream that follow: the end
    that is returned tells. A stream that was removed is not in the answer. Once a transaction, which is the caller's.
    """
    ends = await _hold_ends(conn, {row.stream_id for row in rows})
    chosen: list[ArchiveRow] = []
    for row in rows:
        if ends.get(row.stream_id) == row.start:
            ends[row.stream_id] = row.end
            chosen.append(row)
    if chosen:
        await _add(conn, chosen)
    return ends


async def _hold_ends(conn: Connection, streams: Collection[StreamId]) -> dict[StreamId, int]:
    """Where the streams' archives end, held until the transaction is over; always taken in the same order."""
    found: dict[StreamId, int] = {}
    for _ in range(2):
        cursor = await conn.execute(
            """select stream_id, ended from archive_ends where stream_id = any(%s::uuid[])
               order by stream_id for update""",
            [list(streams)],
        )
        found = {StreamId(row["stream_id"]): row["ended"] for row in await cursor.fetchall()}
        missing = [stream for stream in streams if stream not in found]
        if not missing:
            break
        await conn.execute(
            """insert into archive_ends (stream_id)
               select id from streams where id = any(%s::uuid[]) order by id
               on conflict do nothing""",
            [missing],
        )
    return found


async def _add(conn: Connection, rows: Sequence[ArchiveRow]) -> None:
    # COPY cannot write to a table with row-level security, so the rows come by way of one that only we see.
    await conn.execute(
        """create temporary table if not exists archive_staging (
               stream_id uuid, start bigint, length integer, at timestamptz, pieces bytea, data bytea
           ) on commit delete rows"""
    )
    async with (
        conn.cursor() as cursor,
        cursor.copy(
            "copy pg_temp.archive_staging (stream_id, start, length, at, pieces, data) from stdin (format binary)"
        ) as copy,
    ):
        copy.set_types(["uuid", "int8", "int4", "timestamptz", "bytea", "bytea"])
        for row in rows:
            await copy.write_row((row.stream_id, row.start, row.length, row.at, row.pieces, row.data))
    await conn.execute(
        """with written as (
               insert into archive (stream_id, start, length, at, pieces, data)
               select stream_id, start, length, at, pieces, data from pg_temp.archive_staging
           ), moved as (
               update archive_ends set ended = written.ended
               from (select stream_id, max(start + length) as ended from pg_temp.archive_staging group by 1) as written
               where archive_ends.stream_id = written.stream_id
           )
           insert into archive_days as days (stream_id, day, stored)
           select stream_id, (at at time zone 'UTC')::date, sum(octet_length(data) + octet_length(pieces))
           from pg_temp.archive_staging group by 1, 2 order by 1, 2
           on conflict (stream_id, day) do update set stored = days.stored + excluded.stored"""
    )


async def write_sizes(conn: Connection, changes: Collection[SizeChange]) -> None:
    """Note the sizes of terminals; the last one said of a place counts. Streams that were removed are passed over."""
    async with conn.cursor() as cursor:
        await cursor.executemany(
            """insert into stream_sizes (stream_id, start, at, columns, rows)
               select id, %s, %s, %s, %s from streams where id = %s
               on conflict (stream_id, start) do update set
                   at = excluded.at, columns = excluded.columns, rows = excluded.rows""",
            [(change.start, change.at, change.columns, change.rows, change.stream_id) for change in changes],
        )


async def end(conn: Connection, stream_id: StreamId) -> int:
    """The offset after the last byte that is archived; 0 for a stream of which nothing is."""
    cursor = await conn.execute("select ended from archive_ends where stream_id = %s", [stream_id])
    row = await cursor.fetchone()
    return row["ended"] if row else 0


async def bounds(conn: Connection, stream_id: StreamId) -> tuple[int, int] | None:
    """The offsets between which bytes are kept, the second one exclusive; None when none ever were.

    What retention removed is below the first.
    """
    cursor = await conn.execute(
        """select ended, coalesce((select min(start) from archive where stream_id = archive_ends.stream_id), ended)
                      as start
           from archive_ends where stream_id = %s and ended > 0""",
        [stream_id],
    )
    row = await cursor.fetchone()
    return (row["start"], row["ended"]) if row else None


async def read(conn: Connection, stream_id: StreamId, start: int, end: int | None = None) -> AsyncGenerator[Piece]:
    """The bytes from `start` up to `end` (exclusive; all without it) that are kept, in order, a few rows at a time.

    Whoever stops early closes it (`contextlib.aclosing`).
    """
    place = start
    while end is None or place < end:
        # By place and not by a cursor of the server, which whoever is cut short would leave open.
        cursor = await conn.execute(
            """select start, length, at, pieces, data from archive
               where stream_id = %(stream)s
                 and start >= coalesce((
                     select max(start) from archive where stream_id = %(stream)s and start <= %(place)s), 0)
                 and start + length > %(place)s
                 and (%(end)s::bigint is null or start < %(end)s)
               order by start
               limit %(rows)s""",
            {"stream": stream_id, "place": place, "end": end, "rows": READ_ROWS},
        )
        rows = await cursor.fetchall()
        for row in rows:
            for piece in unpack(row["start"], row["at"], row["pieces"], row["data"]):
                cut = _cut(piece, start, end)
                if cut.data:
                    yield cut
        if len(rows) < READ_ROWS:
            return
        place = rows[-1]["start"] + rows[-1]["length"]


def _cut(piece: Piece, start: int, end: int | None) -> Piece:
    after = piece.start + len(piece.data)
    if piece.start >= start and (end is None or after <= end):
        return piece
    first = max(piece.start, start)
    upto = after if end is None else min(after, end)
    return Piece(piece.at, first, piece.data[first - piece.start : max(first, upto) - piece.start])


async def offset_at(conn: Connection, stream_id: StreamId, at: datetime) -> int:
    """The offset of the first byte that came at `at` or later; the archive's end when none did."""
    cursor = await conn.execute(
        """(select start, at, pieces, data from archive where stream_id = %(stream)s and at < %(at)s
            order by at desc, start desc limit 1)
           union all
           (select start, at, null, null from archive where stream_id = %(stream)s and at >= %(at)s
            order by at, start limit 1)""",
        {"stream": stream_id, "at": at},
    )
    for row in sorted(await cursor.fetchall(), key=lambda row: row["data"] is None):
        if row["data"] is None:
            return row["start"]
        for piece in unpack(row["start"], row["at"], row["pieces"], row["data"]):
            if piece.at >= at:
                return piece.start
    return await end(conn, stream_id)


async def sizes(conn: Connection, stream_id: StreamId) -> list[SizeChange]:
    """Every size that the stream's terminal had, in order."""
    cursor = await conn.execute(
        "select start, at, columns, rows from stream_sizes where stream_id = %s order by start", [stream_id]
    )
    return [
        SizeChange(stream_id, row["start"], row["at"], row["columns"], row["rows"]) for row in await cursor.fetchall()
    ]


async def usage(conn: Connection) -> Mapping[AgentId, int]:
    """Bytes on disk by agent, as compressed; agents with none are left out."""
    cursor = await conn.execute(
        """select agent_id, sum(stored)::bigint as stored
           from archive_days join streams on streams.id = stream_id group by 1"""
    )
    return {AgentId(row["agent_id"]): row["stored"] for row in await cursor.fetchall()}


async def disk_use(conn: Connection) -> tuple[int, int]:
    """Bytes on disk with all indexes: of the archive, and of the text that is searched."""
    cursor = await conn.execute(
        """select (select sum(pg_total_relation_size(relid)) from pg_partition_tree('archive'))::bigint as archive,
                  (select sum(pg_total_relation_size(relid)) from pg_partition_tree('search_text'))::bigint as search"""
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["archive"], row["search"]


async def make_partitions(conn: Connection, days: int) -> list[str]:
    """Make today's partition and those of the next `days` where they are missing; the names of the new ones."""
    cursor = await conn.execute("select onsembl.make_archive_partitions(%s) as name", [days])
    return [row["name"] for row in await cursor.fetchall()]


async def drop_partitions(conn: Connection, days: int) -> list[str]:
    """Drop the partitions of days more than `days` ago; their names."""
    cursor = await conn.execute("select onsembl.drop_archive_partitions(%s) as name", [days])
    return [row["name"] for row in await cursor.fetchall()]


async def create_stream(conn: Connection, agent_id: AgentId) -> StreamId:
    """Add a stream for a new terminal of the agent; its bytes start at offset 0."""
    cursor = await conn.execute("insert into streams (agent_id) values (%s) returning id", [agent_id])
    row = await cursor.fetchone()
    assert row is not None
    return StreamId(row["id"])
