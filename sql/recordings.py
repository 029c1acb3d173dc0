"""The recorded streams: their times, their lengths and their commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.protocol.stream_chain import Span
from onsembl.sql import archive
from onsembl.sql.archive_rows import Piece
from onsembl.sql.database import Connection, Pool

SLICE_BYTES = 1024 * 1024
COMMANDS_AT_ONCE = 1000
LABEL_CHARACTERS = 200

_STREAMS = """
    select streams.id, streams.agent_id, agents.name as agent_name, streams.created_at,
           coalesce(first.start, ended, 0) as start, coalesce(ended, 0) as "end",
           first.at as began_at, last.at as last_at, coalesce(stored, 0)::bigint as stored,
           coalesce(size.columns, agents.columns) as columns, coalesce(size.rows, agents.rows) as rows,
           (select count(*) from commands
            where commands.stream_id = streams.id and output_start is not null) as commands
    from streams
    join agents on agents.id = agent_id
    left join archive_ends on archive_ends.stream_id = streams.id
    left join lateral (
        select start, at from archive where archive.stream_id = streams.id order by start limit 1) as first on true
    left join lateral (
        select at from archive where archive.stream_id = streams.id order by start desc limit 1) as last on true
    left join lateral (
        select columns, rows from stream_sizes where stream_sizes.stream_id = streams.id
        order by start desc limit 1) as size on true
    left join lateral (
        select sum(stored) as stored from archive_days where archive_days.stream_id = streams.id) as days on true
"""


async def get(conn: Connection, stream_id: StreamId) -> DictRow | None:
    """One stream: its kept offsets (`end` exclusive), the times of its first and last kept rows, its bytes on disk."""
    cursor = await conn.execute(f"{_STREAMS} where streams.id = %s", [stream_id])
    return await cursor.fetchone()


async def of_agent(conn: Connection, agent_id: AgentId, before: datetime | None, limit: int) -> list[DictRow]:
    """The agent's streams that began before `before`, newest first."""
    cursor = await conn.execute(
        f"""{_STREAMS}
            where streams.agent_id = %(agent)s
              and (%(before)s::timestamptz is null or streams.created_at < %(before)s)
            order by streams.created_at desc limit %(limit)s""",
        {"agent": agent_id, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def in_span(conn: Connection, agent_id: AgentId, since: datetime | None, until: datetime | None) -> list[DictRow]:
    """The agent's streams with bytes of this time span, oldest first."""
    cursor = await conn.execute(
        f"""select * from ({_STREAMS} where streams.agent_id = %(agent)s) as streams
            where began_at is not null
              and (%(until)s::timestamptz is null or began_at < %(until)s)
              and (%(since)s::timestamptz is null or last_at >= %(since)s::timestamptz - interval '10 seconds')
            order by began_at""",
        {"agent": agent_id, "since": since, "until": until},
    )
    return await cursor.fetchall()


async def commands_in(
    conn: Connection, stream_id: StreamId, start: int, end: int, after: tuple[int, int] | None, limit: int
) -> list[DictRow]:
    """The commands whose output starts within these offsets, in order, with the first `LABEL_CHARACTERS` of their
    texts.

    With `after`, the `output_start` and `seq` of a command, only the commands after it.
    """
    place, seq = after if after is not None else (start, 0)
    cursor = await conn.execute(
        """select id, seq, left(btrim(text, E' \\t\\r\\n'), %(characters)s) as text, state, output_start, output_end,
                  started_at, ended_at
           from commands
           where stream_id = %(stream)s and (output_start, seq) > (%(place)s, %(seq)s) and output_start < %(end)s
           order by output_start, seq limit %(limit)s""",
        {
            "stream": stream_id,
            "place": place,
            "seq": seq,
            "end": end,
            "characters": LABEL_CHARACTERS,
            "limit": limit,
        },
    )
    return await cursor.fetchall()


async def command_start(conn: Connection, stream_id: StreamId, offset: int) -> int:
    """The offset at which the last command that started by `offset` begins its output; 0 before the first command."""
    cursor = await conn.execute(
        """select output_start from commands where stream_id = %s and output_start <= %s
           order by output_start desc limit 1""",
        [stream_id, offset],
    )
    row = await cursor.fetchone()
    return row["output_start"] if row else 0


async def commands(pool: Pool, stream_id: StreamId, start: int, end: int) -> AsyncGenerator[DictRow]:
    """Yield all commands within these offsets, a page at a time; no connection is held between pages."""
    after: tuple[int, int] | None = None
    while True:
        async with pool.connection() as conn:
            page = await commands_in(conn, stream_id, start, end, after, COMMANDS_AT_ONCE)
        for row in page:
            yield row
        if len(page) < COMMANDS_AT_ONCE:
            return
        after = page[-1]["output_start"], page[-1]["seq"]


async def activity(conn: Connection, spans: Sequence[Span], buckets: int) -> list[DictRow]:
    """The bytes over time: the time between the first and the last row in equal parts, without the empty parts.

    Each part has its number from 0, the time and offset of its first row, and its number of bytes.
    """
    cursor = await conn.execute(
        """with rows as (
               select base + start as start, length, at
               from unnest(%(streams)s::uuid[], %(starts)s::bigint[], %(ends)s::bigint[], %(bases)s::bigint[])
                       as spans (stream_id, first, upto, base)
                   join archive using (stream_id)
               where start + length > first and start < upto
           ), span as (
               select min(at) as first, greatest(extract(epoch from max(at) - min(at)), 0.001) as seconds from rows
           )
           select least(%(buckets)s - 1, floor(extract(epoch from at - first) / seconds * %(buckets)s))::int as part,
                  min(at) as at, min(start) as start, sum(length)::bigint as bytes
           from rows, span group by 1 order by 1""",
        {
            "streams": [span.stream_id for span in spans],
            "starts": [span.start for span in spans],
            "ends": [span.end for span in spans],
            "bases": [span.base for span in spans],
            "buckets": buckets,
        },
    )
    return await cursor.fetchall()


async def pieces(pool: Pool, stream_id: StreamId, start: int, end: int) -> AsyncGenerator[Piece]:
    """Yield the kept bytes from `start` to `end`, in order, one MiB at a time.

    No connection is held while the caller processes a piece; a row that retention drops meanwhile is left out.
    """
    while start < end:
        upto = min(end, start + SLICE_BYTES)
        async with pool.connection() as conn, aclosing(archive.read(conn, stream_id, start, upto)) as found:
            batch = [piece async for piece in found]
        for piece in batch:
            yield piece
        start = upto
