"""Models of steps."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from onsembl.api.http.models import Answer, Query, Time
from onsembl.protocol.turn_events import ToolKind, ToolStatus
from onsembl.protocol.turn_steps import StepKind


class StepAnswer(Answer, frozen=True, kw_only=True):
    """A step of a turn. `text` is a message, or the arguments of a tool as JSON; `result` is a tool's result.

    A list has the first 2,000 characters of both; `text_length` and `result_length` are the stored characters, and
    `text_omitted` and `result_omitted` the bytes that were not stored. `parent` is the number of the step of the
    subagent that made it. `changed` grows with each change of a step. The step is shown by the terminal's bytes from
    `output_start` to `output_end`.
    """

    changed: int
    number: int
    revision: int
    parent: int | None
    kind: StepKind
    name: str
    tool_kind: ToolKind | None
    title: str
    status: ToolStatus
    text: str
    text_length: int
    text_omitted: int
    result: str
    result_length: int
    result_omitted: int
    denied: bool
    started_at: Time
    ended_at: Time | None
    output_start: int
    output_end: int
    tokens: int | None
    cost_usd: float | None


class StepsAnswer(Answer, frozen=True, kw_only=True):
    """Steps in the order of their last change; `next_after` is where the next page starts, null on the last page."""

    steps: list[StepAnswer]
    next_after: int | None


class StepsQuery(Query, frozen=True, kw_only=True):
    """Only steps that have changed after `after`."""

    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200
