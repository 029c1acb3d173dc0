"""Searching what terminals showed and what was commanded, with the place of each find in its recording."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial

import msgspec
import psycopg
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import Problem
from onsembl.api.routes.search_models import (
    Excerpt,
    SearchHit,
    SearchHits,
    SearchQuery,
    decode_cursor,
    encode_cursor,
    terms_of,
)
from onsembl.protocol.field_types import RowNumber
from onsembl.protocol.ids import AgentId
from onsembl.protocol.json_input import InputError, decode
from onsembl.protocol.states import CommandState
from onsembl.sql import search
from onsembl.sql.database import Connection
from onsembl.sql.search import SearchFilter

_row_number = msgspec.json.Decoder(RowNumber)
BLOCKS = 100
"""Rows read at once."""
ROUNDS = 20
"""So often at most for one page, which may then be short."""
BEFORE = 60
EXCERPT = 240
"""Characters of an excerpt, and those before its first match."""


async def search_history(call: Call[NoBody]) -> SearchHits:
    query = call.query(SearchQuery)
    wanted = SearchFilter(
        terms=terms_of(query.q),
        agent_id=AgentId(query.agent_id) if query.agent_id is not None else None,
        since=query.since,
        until=query.until,
    )
    find = _output if query.kind == "output" else _commands
    try:
        async with call.services.pool.connection() as conn:
            await search.limit_time(conn)
            return await find(conn, wanted, query.cursor, query.limit)
    except psycopg.errors.QueryCanceled as error:
        raise Problem(503, "The search takes too long. Name an agent, a shorter time or a longer word.") from error
    except InputError as error:
        raise Problem(400, "The cursor is invalid.") from error


async def _output(conn: Connection, wanted: SearchFilter, cursor: str | None, limit: int) -> SearchHits:
    place = decode_cursor(cursor) if cursor is not None else None
    matcher = _matcher(wanted)
    hits: list[SearchHit] = []
    for _ in range(ROUNDS):
        rows = await search.blocks(conn, wanted, place[:3] if place is not None else None, BLOCKS)
        for row in rows:
            upto = place[3] if place is not None and place[:3] == (row["at"], row["stream_id"], row["start"]) else None
            for offset, hit in _hits(row, wanted, matcher, upto):
                hits.append(hit)
                place = (row["at"], row["stream_id"], row["start"], offset)
                if len(hits) == limit:
                    return SearchHits(hits=hits, next_cursor=encode_cursor(*place))
            place = (row["at"], row["stream_id"], row["start"], 0)
        if len(rows) < BLOCKS:
            return SearchHits(hits=hits, next_cursor=None)
    return SearchHits(hits=hits, next_cursor=encode_cursor(*place) if place is not None else None)


def _hits(
    row: DictRow, wanted: SearchFilter, matcher: re.Pattern[str], upto: int | None
) -> list[tuple[int, SearchHit]]:
    """The row's lines of the time that have every term, the last one first; those before the offset `upto`."""
    found: list[tuple[int, SearchHit]] = []
    lines: list[str] = row["text"].split("\n")
    folded = [term.lower() for term in wanted.terms]
    for line, offset, after in zip(lines, row["line_starts"], row["line_ms"], strict=False):
        if (upto is not None and offset >= upto) or not all(term in line.lower() for term in folded):
            continue
        at = row["at"] + timedelta(milliseconds=after)
        if (wanted.since is not None and at < wanted.since) or (wanted.until is not None and at >= wanted.until):
            continue
        hit = SearchHit(
            agent_id=row["agent_id"],
            at=at,
            stream_id=row["stream_id"],
            offset=offset,
            command_id=None,
            state=None,
            excerpt=excerpt(line, matcher),
        )
        found.append((offset, hit))
    return found[::-1]


async def _commands(conn: Connection, wanted: SearchFilter, cursor: str | None, limit: int) -> SearchHits:
    before = decode(_row_number, cursor) if cursor is not None else None
    matcher = _matcher(wanted)
    page = await read_page(limit, partial(search.commands, conn, wanted, before))
    hits = [
        SearchHit(
            agent_id=row["agent_id"],
            at=row["created_at"],
            stream_id=row["stream_id"],
            offset=row["output_start"],
            command_id=row["id"],
            state=CommandState(row["state"]),
            excerpt=excerpt(row["text"], matcher),
        )
        for row in page.rows
    ]
    return SearchHits(hits=hits, next_cursor=str(page.cursor("seq")) if page.has_more else None)


def _matcher(wanted: SearchFilter) -> re.Pattern[str]:
    longest_first = sorted(wanted.terms, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})", re.IGNORECASE)


def excerpt(text: str, matcher: re.Pattern[str]) -> list[Excerpt]:
    """The text around its first match, every match in it marked."""
    first = matcher.search(text)
    start = max(0, first.start() - BEFORE) if first is not None else 0
    cut = text[start : start + EXCERPT]
    parts = matcher.split(("…" if start else "") + cut + ("…" if start + EXCERPT < len(text) else ""))
    return [Excerpt(text=part, match=index % 2 == 1) for index, part in enumerate(parts) if part]


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/search",
        handler=search_history,
        summary="Search the output of terminals (kind=output) or the text of commands (kind=commands), newest first",
        answer=SearchHits,
        query=SearchQuery,
        problems=(503,),
    ),
]
