"""Models of the search."""

from __future__ import annotations

import re
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
from onsembl.protocol.turn_steps import StepNumber

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
    """A search. Every word of `q` occurs in a line of output, in a step or in a command's text, in any case and at any
    place; a phrase in double quotes is one word. `kind` is what is searched: `all` is output and steps together."""

    q: Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]
    kind: Literal["all", "output", "steps", "commands"] = "all"
    agent_id: UUID | None = None
    cursor: Annotated[str, Meta(max_length=400, pattern=NO_NUL)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Excerpt(Answer, frozen=True, kw_only=True):
    """A part of a text; `match` is true for a part that matches the search."""

    text: str
    match: bool


class SearchHit(Answer, frozen=True, kw_only=True):
    """A line of output, a step, or a command. `offset` is where the line, or the output of the step or command, starts
    in the stream. `step` and `step_name` are the number of a step in its command, and its tool's name or its kind."""

    agent_id: UUID
    at: Time
    stream_id: UUID | None
    offset: int | None
    command_id: UUID | None
    step: int | None
    step_name: str | None
    state: CommandState | None
    excerpt: list[Excerpt]


class SearchHits(Answer, frozen=True, kw_only=True):
    """A page of matches, newest first; `next_cursor` is where the next page starts, null on the last page."""

    hits: list[SearchHit]
    next_cursor: str | None


class OutputPlace(Bounded, frozen=True, kw_only=True, array_like=True, tag=False):
    """A line of output: the row of the index that has it, and the offset of the line."""

    at: Time
    stream_id: UUID
    start: OffsetField
    line: OffsetField


class StepPlace(Bounded, frozen=True, kw_only=True, array_like=True, tag=False):
    """A step."""

    at: Time
    command_id: UUID
    number: StepNumber


class Places(Bounded, frozen=True, kw_only=True, array_like=True):
    """Where the next page of a search starts, in the output and in the steps: after this place, from the newest (True),
    or nowhere, because no more is there (False)."""

    output: OutputPlace | bool
    steps: StepPlace | bool


_places_decoder = msgspec.json.Decoder(Places)


def encode_cursor(places: Places) -> str:
    """The cursor of the page that starts here."""
    return msgspec.json.encode(places).decode()


def decode_cursor(text: str) -> Places:
    """The places in a cursor. Raises InputError."""
    return decode(_places_decoder, text)
