"""Models of the search."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.api.http.models import Answer, Time
from onsembl.api.http.problems import Problem
from onsembl.api.routes.recordings_models import TimeRange
from onsembl.protocol.field_types import NO_NUL, Bounded, OffsetField
from onsembl.protocol.json_input import decode
from onsembl.protocol.states import CommandState

MAX_TERMS = 8


def terms_of(text: str) -> list[str]:
    """The words and quoted phrases of a query. Raises Problem 400."""
    terms = [quoted or word for quoted, word in re.findall(r'"([^"]+)"|(\S+)', text)]
    terms = [term for term in terms if term.strip('"')]
    if not terms or "\0" in text:
        raise Problem(400, "Give at least one word to search for.")
    if len(terms) > MAX_TERMS:
        raise Problem(400, f"Give at most {MAX_TERMS} words; put a phrase in double quotes.")
    return terms


class SearchQuery(TimeRange, frozen=True, kw_only=True):
    """A search. Every word of `q` occurs in a line, in any case and at any place; a phrase in double quotes is one
    word."""

    q: Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]
    kind: Literal["output", "commands"] = "output"
    agent_id: UUID | None = None
    cursor: Annotated[str, Meta(max_length=200, pattern=NO_NUL)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Excerpt(Answer, frozen=True, kw_only=True):
    """A part of a line; `match` is true for a part that matches the search."""

    text: str
    match: bool


class SearchHit(Answer, frozen=True, kw_only=True):
    """A line of output, or a command. `offset` is where the line, or the command's output, starts in the stream."""

    agent_id: UUID
    at: Time
    stream_id: UUID | None
    offset: int | None
    command_id: UUID | None
    state: CommandState | None
    excerpt: list[Excerpt]


class SearchHits(Answer, frozen=True, kw_only=True):
    """A page of matches, newest first; `next_cursor` is where the next page starts, null on the last page."""

    hits: list[SearchHit]
    next_cursor: str | None


class _Cursor(Bounded, frozen=True, kw_only=True, array_like=True):
    at: Time
    stream_id: UUID
    start: OffsetField
    line: OffsetField


_cursor_decoder = msgspec.json.Decoder(_Cursor)


def encode_cursor(at: datetime, stream_id: UUID, start: int, line: int) -> str:
    """The cursor after the last line of a page."""
    return msgspec.json.encode(_Cursor(at=at, stream_id=stream_id, start=start, line=line)).decode()


def decode_cursor(text: str) -> tuple[datetime, UUID, int, int]:
    """The place in a cursor. Raises InputError."""
    cursor = decode(_cursor_decoder, text)
    return cursor.at, cursor.stream_id, cursor.start, cursor.line
