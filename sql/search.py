"""Searches terminal output, steps and command texts, and maintains the tables of the output index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.sql.database import Connection

PARTITION_DAYS = 3
SEARCH_MS = 10_000
"""The time limit of a search statement, in milliseconds."""

STEP_TEXT = r"(title || E'\n' || steps.text || E'\n' || result)"
"""The text of a step that is searched; the expression of its index."""


SHOWN_BEFORE, SHOWN = 200, 1000
"""Characters of a step that a search returns before its first term, and altogether: a text may have 256 KiB."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one stream that are searched together: a row. The times of lines are in milliseconds after `at`."""

    start: int
    at: datetime
    text: str
    line_starts: list[int]
    line_ms: list[int]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the index of one stream; see the table."""

    indexed: int
    seen: int
    open_at: datetime | None
    carry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFilter:
    """A search: all of `terms` (in any case), of one agent, within a time span; a field that is None matches
    everything."""

    terms: Sequence[str]
    agent_id: AgentId | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self, text: str, first: str, last: str) -> tuple[str, dict[str, object]]:
        """The SQL condition on this text, for lines from the time `first` to the time `last`, and its parameters."""
        conditions = [f"{text} ilike %(term{index})s" for index in range(len(self.terms))]
        parameters: dict[str, object] = {f"term{index}": pattern(term) for index, term in enumerate(self.terms)}
        for name, value, condition in (
            ("agent", self.agent_id, "agent_id = %(agent)s"),
            ("since", self.since, f"{last} >= %(since)s"),
            ("until", self.until, f"{first} < %(until)s"),
        ):
            if value is not None:
                conditions.append(condition)
                parameters[name] = value
        return " and ".join(conditions), parameters


def pattern(term: str) -> str:
    """The `ilike` pattern that matches this text anywhere."""
    escaped = term.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


async def limit_time(conn: Connection) -> None:
    """Limit the time of this transaction's statements: a longer one raises psycopg.errors.QueryCanceled."""
    await conn.execute("select set_config('statement_timeout', %s, true)", [str(SEARCH_MS)])


async def blocks(
    conn: Connection, wanted: SearchFilter, upto: tuple[datetime, UUID, int] | None, limit: int
) -> list[DictRow]:
    """Rows that contain every term and have a line within the time span, newest first; only rows at or before the place
    `upto`."""
    condition, parameters = wanted.where("text", "at", "at + line_ms[cardinality(line_ms)] * interval '1 millisecond'")
    if wanted.since is not None:
        condition += " and at >= %(since)s - interval '1 day'"  # no row spans two days: earlier days are not read
    if upto is not None:
        condition += " and (at, stream_id, start) <= (%(at)s, %(stream)s, %(start)s)"
        parameters |= {"at": upto[0], "stream": upto[1], "start": upto[2]}
    cursor = await conn.execute(
        f"""select stream_id, agent_id, start, at, text, line_starts, line_ms from search_text
            where {condition}
            order by at desc, stream_id desc, start desc limit %(limit)s""".encode(),
        {**parameters, "limit": limit},
    )
    return await cursor.fetchall()


async def commands(conn: Connection, wanted: SearchFilter, before: int | None, limit: int) -> list[DictRow]:
    """Commands whose text contains every term and whose `seq` is below `before`, newest first."""
    condition, parameters = wanted.where("text", "created_at", "created_at")
    cursor = await conn.execute(
        f"""select id, seq, agent_id, text, state, created_at, stream_id, output_start from commands
            where {condition} and (%(before)s::bigint is null or seq < %(before)s)
            order by seq desc limit %(limit)s""".encode(),
        {**parameters, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def steps(
    conn: Connection, wanted: SearchFilter, before: tuple[datetime, UUID, int] | None, limit: int
) -> list[DictRow]:
    """Steps that have ended and whose title, text and result together contain every term, newest first; only those
    before the place `before`. `shown` is the part around the first match in the result, the text or the title: in the
    first of them that has a term."""
    condition, parameters = wanted.where(STEP_TEXT, "steps.started_at", "steps.started_at")
    if before is not None:
        condition += " and (steps.started_at, command_id, number) < (%(at)s, %(command)s, %(number)s)"
        parameters |= {"at": before[0], "command": before[1], "number": before[2]}
    cursor = await conn.execute(
        f"""select agent_id, steps.started_at, steps.command_id, number, steps.kind, name, steps.output_start,
                stream_id, (
                    select substr(one, greatest(1, coalesce(first, 1) - {SHOWN_BEFORE}), {SHOWN})
                    from unnest(array[result, steps.text, title]) with ordinality as texts (one, place)
                    cross join lateral (
                        select min(nullif(strpos(lower(one), lower(term)), 0)) as first
                        from unnest(%(terms)s::text[]) as term) as found
                    order by first is null, place limit 1) as shown
            from steps join commands on commands.id = command_id
            where steps.ended_at is not null and {condition}
            order by steps.started_at desc, command_id desc, number desc limit %(limit)s""".encode(),
        {**parameters, "terms": list(wanted.terms), "limit": limit},
    )
    return await cursor.fetchall()


async def behind(conn: Connection, *, all_streams: bool, limit: int = 200) -> list[DictRow]:
    """Streams (`stream_id`, `agent_id`) whose archive is ahead of the index, the longest backlog first: of the streams
    in use, or of all streams."""
    source = "" if all_streams else "join agents on agents.stream_id = streams.id"
    cursor = await conn.execute(
        f"""select streams.id as stream_id, streams.agent_id from streams {source}
            join archive_ends on archive_ends.stream_id = streams.id
            left join search_ends on search_ends.stream_id = streams.id
            where archive_ends.ended > coalesce(search_ends.seen, 0)
            order by archive_ends.ended - coalesce(search_ends.seen, 0) desc
            limit %s""",
        [limit],
    )
    return await cursor.fetchall()


async def take(conn: Connection, stream_id: StreamId) -> Progress | None:
    """The stream's progress, locked until the transaction ends; None when another transaction has locked it."""
    await conn.execute(
        """insert into search_ends (stream_id) select id from streams where id = %s on conflict do nothing""",
        [stream_id],
    )
    cursor = await conn.execute(
        "select indexed, seen, open_at, carry from search_ends where stream_id = %s for update skip locked",
        [stream_id],
    )
    row = await cursor.fetchone()
    return Progress(**row) if row else None


async def put(
    conn: Connection,
    agent_id: AgentId,
    stream_id: StreamId,
    before: Progress,
    after: Progress,
    found: Sequence[Block],
) -> None:
    """Add rows, replace the row whose last line had not ended, and record the progress."""
    if before.open_at is not None:
        await conn.execute(
            "delete from search_text where stream_id = %s and start = %s and at = %s",
            [stream_id, before.indexed, before.open_at],
        )
    async with conn.cursor() as cursor:
        await cursor.executemany(
            """insert into search_text (stream_id, agent_id, start, at, text, line_starts, line_ms)
               values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing""",
            [
                (stream_id, agent_id, block.start, block.at, block.text, block.line_starts, block.line_ms)
                for block in found
            ],
        )
    await conn.execute(
        "update search_ends set indexed = %s, seen = %s, open_at = %s, carry = %s where stream_id = %s",
        [after.indexed, after.seen, after.open_at, after.carry, stream_id],
    )


async def keep_partitions(conn: Connection) -> None:
    """Create the partitions of the coming days; drop the partitions of days that the archive has dropped."""
    await conn.execute("select keep_search_partitions(%s)", [PARTITION_DAYS])
