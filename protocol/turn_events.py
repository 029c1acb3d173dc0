"""The events of a turn: what one run of a coding CLI says and does, in the words of the Agent Client Protocol (ACP).

A driver translates the lines of its CLI into these events. They are shown, stored and answered alike for every CLI.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from onsembl.protocol.usage import Usage

ToolKind = Literal["read", "edit", "delete", "move", "search", "execute", "think", "fetch", "other"]
ToolStatus = Literal["pending", "in_progress", "completed", "failed"]
PlanStatus = Literal["pending", "in_progress", "completed"]
Speaker = Literal["agent", "thought", "user"]
NoticeKind = Literal[
    "retry", "rate_limit", "compaction", "permission_mode", "background", "hook", "unknown_output", "information"
]
TurnOutcome = Literal["completed", "failed", "interrupted", "over_budget"]


class TurnEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """An event of a turn. `parent` is the id of the tool call of the subagent in which it happened, if any."""

    parent: str | None = None


class TurnStarted(TurnEvent, tag="turn_started", frozen=True, kw_only=True):
    """The CLI begins to work. `conversation` is the CLI's own id, by which it resumes."""

    conversation: str
    model: str
    folder: str
    permission_mode: str
    version: str


class MessageChunk(TurnEvent, tag="message_chunk", frozen=True, kw_only=True):
    """A piece of a message, as it is written."""

    speaker: Speaker
    text: str


class MessageEnded(TurnEvent, tag="message_ended", frozen=True, kw_only=True):
    """The message, whose pieces came before, is complete."""


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """A change of one file that a tool call asks for. `old` is None where the tool does not say it."""

    path: str
    old: str | None
    new: str


class ToolCall(TurnEvent, tag="tool_call", frozen=True, kw_only=True):
    """The agent calls a tool. `title` is its main argument, `arguments` all of them as JSON."""

    id: str
    name: str
    kind: ToolKind
    title: str
    arguments: str
    diffs: list[Diff] = []


class ToolCallEnded(TurnEvent, tag="tool_call_ended", frozen=True, kw_only=True):
    """A tool call has a result. `images` describes each image in it."""

    id: str
    status: ToolStatus
    text: str
    images: list[str] = []


class PlanEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a plan."""

    content: str
    status: PlanStatus


class Plan(TurnEvent, tag="plan", frozen=True, kw_only=True):
    """The whole plan, each time that it changes."""

    entries: list[PlanEntry]


class Steered(TurnEvent, tag="steered", frozen=True, kw_only=True):
    """The CLI has taken a text that was sent while the turn ran."""

    id: UUID
    text: str


class PermissionDenied(TurnEvent, tag="permission_denied", frozen=True, kw_only=True):
    """A tool call was not allowed. `title` is its main argument."""

    tool_call: str
    name: str
    title: str
    reason: str


class BackgroundSubagents(TurnEvent, tag="background_subagents", frozen=True, kw_only=True):
    """The subagents that were started by these tool calls, and no others, work on in the background."""

    tool_calls: list[str]


class StructuredAnswer(TurnEvent, tag="structured_answer", frozen=True, kw_only=True):
    """The answer as JSON, which the CLI has held to the schema that it was given."""

    text: str


class ReportSubmitted(TurnEvent, tag="report_submitted", frozen=True, kw_only=True):
    """The agent has submitted a report as JSON, which may not fit; it is a draft until the turn ends."""

    text: str


class Notice(TurnEvent, tag="notice", frozen=True, kw_only=True):
    """Something that the CLI says of itself."""

    kind: NoticeKind
    text: str


class TurnEnded(TurnEvent, tag="turn_ended", frozen=True, kw_only=True):
    """The CLI has ended a turn. Another may follow in the same run, for example when a background subagent ends.

    `seconds` and `usage` are of the whole run so far; None where the CLI does not report them. `error` is the CLI's own
    text.
    """

    outcome: TurnOutcome
    error: str | None = None
    seconds: float | None = None
    usage: Usage | None = None
