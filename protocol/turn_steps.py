"""Steps: what happened in a turn, one by one, as the server stores it. Steps form a tree by `parent`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.protocol.field_types import NO_NUL, Bounded, Message, OffsetField, ShortText, Time
from onsembl.protocol.turn_events import ToolKind, ToolStatus
from onsembl.protocol.turn_messages import Tokens

StepKind = Literal["message", "thought", "input", "tool", "plan", "notice", "result"]
"""`input` is text that was added to the conversation, by the CLI, or by an operator while the turn ran (then its
name is `steer`); `result` is the end of a turn."""

MAX_STEP_TEXT = 256 * 1024
"""The most bytes of a text or a result that a step has, in UTF-8."""
MAX_STEPS_IN_MESSAGE = 256

StepNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
StepText = Annotated[str, Meta(max_length=MAX_STEP_TEXT, pattern=NO_NUL)]
Omitted = Annotated[int, Meta(ge=0, le=2**53)]


class Step(Bounded, frozen=True, kw_only=True, omit_defaults=True):
    """A step of a command, in its newest `revision`.

    `text` is a message, or the arguments of a tool as JSON; `result` is a tool's result. `text_omitted` and
    `result_omitted` are how many bytes of them are missing. `output_start` and `output_end` are the offsets of the
    terminal's bytes between which the step was first and last shown. `tokens` and `cost_usd` are those of the whole
    command so far, at the end of a turn. `denied` is true for a tool call that was not allowed.
    """

    number: StepNumber
    revision: StepNumber
    parent: StepNumber | None = None
    kind: StepKind
    name: ShortText = ""
    tool_kind: ToolKind | None = None
    title: ShortText = ""
    status: ToolStatus
    text: StepText = ""
    result: StepText = ""
    text_omitted: Omitted = 0
    result_omitted: Omitted = 0
    denied: bool = False
    started_at: Time
    ended_at: Time | None = None
    output_start: OffsetField
    output_end: OffsetField
    tokens: Tokens | None = None
    cost_usd: Annotated[float, Meta(ge=0, le=2**53)] | None = None


class Steps(Message, tag="steps", frozen=True, kw_only=True):
    """New and changed steps of a command, from agent to server; repeated until `steps_recorded` comes.

    `through` is the number of the last record that the message has: the agent counts the records of each command.
    The offsets of the steps are counted by the stream `stream_id`, as in `accepted`.
    """

    command_id: UUID
    stream_id: UUID | None = None
    through: Annotated[int, Meta(ge=1, le=2**53)]
    steps: Annotated[list[Step], Meta(min_length=1, max_length=MAX_STEPS_IN_MESSAGE)]


class StepsRecorded(Message, tag="steps_recorded", frozen=True, kw_only=True):
    """The server has the command's records up to `through`; the agent may drop them."""

    command_id: UUID
    through: Annotated[int, Meta(ge=1, le=2**53)]
