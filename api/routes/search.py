"""Searching what terminals showed, what agents did and what was commanded, with the place of each find."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

import msgspec
import psycopg
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import Problem
from onsembl.api.routes.search_models import (
    Excerpt,
    OutputPlace,
    Places,
    SearchHit,
    SearchHits,
    SearchQuery,
    StepPlace,
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


Place = TypeVar("Place", OutputPlace, StepPlace)


@dataclass(slots=True)
class _Found(Generic[Place]):
    """A page of one source, newest first. Each match has its place; `next` is where the next page of it starts."""

    hits: list[tuple[SearchHit, Place]]
    next: Place | bool


async def search_history(call: Call[NoBody]) -> SearchHits:
    query = call.query(SearchQuery)
    wanted = SearchFilter(
        terms=terms_of(query.q),
        agent_id=AgentId(query.agent_id) if query.agent_id is not None else None,
        since=query.since,
        until=query.until,
    )
    try:
        async with call.services.pool.connection() as conn:
            await search.limit_time(conn)
            if query.kind == "commands":
                return await _commands(conn, wanted, query.cursor, query.limit)
            start = Places(output=query.kind != "steps", steps=query.kind != "output")
            places = decode_cursor(query.cursor) if query.cursor is not None else start
            output = await _output(conn, wanted, places.output, query.limit)
            steps = await _steps(conn, wanted, places.steps, query.limit)
            return _merged(output, steps, places, query.limit)
    except psycopg.errors.QueryCanceled as error:
        raise Problem(503, "The search takes too long. Name an agent, a shorter time or a longer word.") from error
    except InputError as error:
        raise Problem(400, "The cursor is invalid.") from error


def _merged(output: _Found[OutputPlace], steps: _Found[StepPlace], before: Places, limit: int) -> SearchHits:
    """The newest matches of both sources; those that are left come again on the next page."""
    both = heapq.merge(output.hits, steps.hits, key=lambda found: found[0].at, reverse=True)
    page = list(islice(both, limit))
    places = Places(
        output=_next_place(output, before.output, [place for _, place in page if isinstance(place, OutputPlace)]),
        steps=_next_place(steps, before.steps, [place for _, place in page if isinstance(place, StepPlace)]),
    )
    more = places.output is not False or places.steps is not False
    return SearchHits(hits=[hit for hit, _ in page], next_cursor=encode_cursor(places) if more else None)


def _next_place(found: _Found[Place], before: Place | bool, shown: list[Place]) -> Place | bool:
    if len(shown) == len(found.hits):
        return found.next
    return shown[-1] if shown else before


async def _output(conn: Connection, wanted: SearchFilter, place: OutputPlace | bool, limit: int) -> _Found[OutputPlace]:
    if place is False:
        return _Found([], next=False)
    matcher = _matcher(wanted)
    hits: list[tuple[SearchHit, OutputPlace]] = []
    at = place if place is not True else None
    for _ in range(ROUNDS):
        rows = await search.blocks(conn, wanted, (at.at, at.stream_id, at.start) if at is not None else None, BLOCKS)
        for row in rows:
            block = OutputPlace(at=row["at"], stream_id=row["stream_id"], start=row["start"], line=0)
            upto = at.line if at is not None and msgspec.structs.replace(at, line=0) == block else None
            for offset, hit in _hits(row, wanted, matcher, upto):
                at = msgspec.structs.replace(block, line=offset)
                hits.append((hit, at))
                if len(hits) == limit:
                    return _Found(hits, next=at)
            at = block
        if len(rows) < BLOCKS:
            return _Found(hits, next=False)
    return _Found(hits, next=at if at is not None else False)


async def _steps(conn: Connection, wanted: SearchFilter, place: StepPlace | bool, limit: int) -> _Found[StepPlace]:
    if place is False:
        return _Found([], next=False)
    before = (place.at, place.command_id, place.number) if place is not True else None
    page = await read_page(limit, partial(search.steps, conn, wanted, before))
    matcher = _matcher(wanted)
    hits: list[tuple[SearchHit, StepPlace]] = [
        (
            SearchHit(
                agent_id=row["agent_id"],
                at=row["started_at"],
                stream_id=row["stream_id"],
                offset=row["output_start"],
                command_id=row["command_id"],
                step=row["number"],
                step_name=row["name"] or row["kind"],
                state=None,
                excerpt=excerpt(row["shown"], matcher),
            ),
            StepPlace(at=row["started_at"], command_id=row["command_id"], number=row["number"]),
        )
        for row in page.rows
    ]
    return _Found(hits, next=hits[-1][1] if page.has_more else False)


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
            step=None,
            step_name=None,
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
            step=None,
            step_name=None,
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
        summary="Search the output of terminals, the steps of turns that have ended, both, or commands, newest first",
        answer=SearchHits,
        query=SearchQuery,
        problems=(503,),
    ),
]
