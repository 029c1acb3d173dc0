"""The `archive` table and its companions: every byte of every stream once, in order, with its time.

Only `write` adds rows, in any process that holds missing bytes. `archive_ends` has the end of each stream's archive;
`write` locks that row while it extends the stream.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.sql.archive_rows import ArchiveRow, Piece, unpack
from onsembl.sql.database import Connection

READ_ROWS = 16
"""The rows that a reader fetches at once: at most 4 MiB."""


@dataclass(frozen=True, slots=True)
class SizeChange:
    """The size of a stream's terminal from this offset on, in cells."""

    stream_id: StreamId
    start: int
    at: datetime
    columns: int
    rows: int


async def write(conn: Connection, rows: Sequence[ArchiveRow]) -> dict[StreamId, int]:
    """Add `rows`, which are in order within each stream; return the new end of each stream's archive.

    A row that does not start exactly at the end of its stream's archive is skipped, and so are the later rows of that
    stream; the returned end shows this. A removed or closed stream is missing from the result. Call this once per
    transaction; the caller owns the transaction.
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
    """Lock the ends of the streams' archives until the transaction ends, always in the same order; return the ends."""
    found: dict[StreamId, int] = {}
    for _ in range(2):
        cursor = await conn.execute(
            """select stream_id, ended from archive_ends where stream_id = any(%s::uuid[]) and not closed
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
    # COPY cannot write to a table with row-level security, so the rows pass through a temporary table.
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
    """Record sizes of terminals; the last size given for an offset counts. Removed streams are skipped."""
    async with conn.cursor() as cursor:
        await cursor.executemany(
            """insert into stream_sizes (stream_id, start, at, columns, rows)
               select id, %s, %s, %s, %s from streams where id = %s
               on conflict (stream_id, start) do update set
                   at = excluded.at, columns = excluded.columns, rows = excluded.rows""",
            [(change.start, change.at, change.columns, change.rows, change.stream_id) for change in changes],
        )


async def end(conn: Connection, stream_id: StreamId) -> int:
    """The offset after the last archived byte; 0 for a stream without archived bytes."""
    cursor = await conn.execute("select ended from archive_ends where stream_id = %s", [stream_id])
    row = await cursor.fetchone()
    return row["ended"] if row else 0


async def bounds(conn: Connection, stream_id: StreamId) -> tuple[int, int] | None:
    """The offsets of the kept bytes: the first, and the end (exclusive); None when no byte was ever archived.

    Retention has removed the bytes below the first offset.
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
    """Yield the kept bytes from `start` to `end` (exclusive; without `end`, all bytes), in order, a few rows at a time.

    A caller that stops early closes the generator (`contextlib.aclosing`).
    """
    place = start
    while end is None or place < end:
        # Read by offset, not with a server-side cursor: a cancelled reader would leave the cursor open.
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
    """The offset of the first byte that arrived at `at` or later; the archive's end when no byte did."""
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
    """Compressed bytes on disk, by agent; agents without archived bytes are left out."""
    cursor = await conn.execute(
        """select agent_id, sum(stored)::bigint as stored
           from archive_days join streams on streams.id = stream_id group by 1"""
    )
    return {AgentId(row["agent_id"]): row["stored"] for row in await cursor.fetchall()}


async def disk_use(conn: Connection) -> tuple[int, int]:
    """Bytes on disk, including all indexes: of the archive, and of the search text."""
    cursor = await conn.execute(
        """select (select sum(pg_total_relation_size(relid)) from pg_partition_tree('archive'))::bigint as archive,
                  (select sum(pg_total_relation_size(relid)) from pg_partition_tree('search_text'))::bigint as search"""
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["archive"], row["search"]


async def make_partitions(conn: Connection, days: int) -> list[str]:
    """Create the missing partitions of today and of the next `days` days; return the names of the new partitions."""
    cursor = await conn.execute("select onsembl.make_archive_partitions(%s) as name", [days])
    return [row["name"] for row in await cursor.fetchall()]


async def drop_partitions(conn: Connection, days: int) -> list[str]:
    """Drop the partitions of days more than `days` days ago; return their names."""
    cursor = await conn.execute("select onsembl.drop_archive_partitions(%s) as name", [days])
    return [row["name"] for row in await cursor.fetchall()]


async def close(conn: Connection, agent_id: AgentId, streams: Collection[StreamId]) -> None:
    """Let the archive of these streams grow no more, from here on and after the transaction; other agents' are left."""
    await conn.execute(
        """insert into archive_ends (stream_id, closed)
           select id, true from streams where id = any(%s::uuid[]) and agent_id = %s order by id
           on conflict (stream_id) do update set closed = true""",
        [list(streams), agent_id],
    )


@dataclass(frozen=True, slots=True)
class FormerOutput:
    """The archived output of an agent, by the offsets of one of its streams.

    `newest_at` is the place of the newest stream's first byte; None when that does not continue the stream.
    """

    end: int
    newest_at: int | None


async def former_output(conn: Connection, agent_id: AgentId, newest: StreamId | None, named: StreamId) -> FormerOutput:
    """What is archived of the agent's output, by the offsets of the stream `named`.

    `newest` is the agent's present stream here. It may continue `named` by way of others, whose names the agent could
    not write to its disk.
    """
    cursor = await conn.execute(
        """with recursive chain (id, at) as (
               select %(newest)s::uuid, 0::bigint
               union all
               select continues, at + continues_at from chain join streams using (id) where continues is not null
           ) cycle id set looped using path,
           place as (select at from chain where id = %(named)s and not looped)
           select (select at from place) as newest_at, coalesce(
               (select at from place) + coalesce((select ended from archive_ends where stream_id = %(newest)s), 0),
               (select ended from archive_ends join streams on streams.id = stream_id
                where stream_id = %(named)s and agent_id = %(agent)s), 0) as ended""",
        {"newest": newest, "named": named, "agent": agent_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return FormerOutput(row["ended"], row["newest_at"])


async def create_stream(
    conn: Connection, agent_id: AgentId, continues: StreamId | None = None, continues_at: int = 0
) -> StreamId:
    """Add a stream for the agent's terminal; its bytes start at offset 0, which is `continues_at` in the stream before.

    The stream before may be one that only the agent knows. `continues_at` is negative when the agent has lost bytes of
    it, and those since a stream before that have their offsets.
    """
    cursor = await conn.execute(
        "insert into streams (agent_id, continues, continues_at) values (%s, %s, %s) returning id",
        [agent_id, continues, continues_at if continues is not None else None],
    )
    row = await cursor.fetchone()
    assert row is not None
    return StreamId(row["id"])
