"""Models of the event feed."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, Query, Time
from onsembl.protocol.activity import CurrentActivity
from onsembl.protocol.attention_notes import AttentionKind
from onsembl.protocol.reports import Severity
from onsembl.protocol.states import CommandState, Role

EventKind = Literal[
    "attention.asked",
    "attention.answered",
    "attention.withdrawn",
    "command.ended",
    "agent.status",
    "limit.reached",
    "limit.over",
    "report.written",
    "halt.begun",
    "halt.lifted",
]
EventFamily = Literal["attention", "command", "agent", "limit", "report", "halt"]
"""The first part of kinds; it stands for all of them."""
Cursor = Annotated[int, Meta(ge=0, le=2**63 - 1)]
MAX_EVENTS = 200


class RequestAsked(Answer, frozen=True, kw_only=True, tag="attention.asked", tag_field="kind"):
    """An agent asks, or asks something else under the same id. An answer names the `digest`. With `guess`, nothing says
    that the program waits but its silence."""

    request_kind: AttentionKind
    title: str
    digest: str
    guess: bool


class RequestAnswered(Answer, frozen=True, kw_only=True, tag="attention.answered", tag_field="kind"):
    """A request was answered, by an operator or by a rule. The request itself has the whole decision."""

    request_kind: AttentionKind
    title: str
    decision: Literal["allow", "deny", "answers", "form"]
    answered_by_kind: Literal["operator", "rule"]
    answered_by_name: str
    scope: Literal["once", "conversation", "always"]


class RequestWithdrawn(Answer, frozen=True, kw_only=True, tag="attention.withdrawn", tag_field="kind"):
    """A request does not wait any more, and nobody has answered it."""

    request_kind: AttentionKind
    title: str
    reason: str


class CommandEnded(Answer, frozen=True, kw_only=True, tag="command.ended", tag_field="kind"):
    """A command has ended. `text` is the beginning of its text; `denied` counts the tool calls that were not
    allowed."""

    state: CommandState
    text: str
    exit_code: int | None
    signal: int | None
    error: str | None
    limit_passed: str | None
    denied: int = 0  # events of earlier releases do not have it


class AgentStatusChanged(CurrentActivity, frozen=True, kw_only=True, tag="agent.status", tag_field="kind"):
    """The agent does something else than before. An agent of which there is no such event is offline."""


class LimitReached(Answer, frozen=True, kw_only=True, tag="limit.reached", tag_field="kind"):
    """The agent has reached a usage limit of its vendor, and waits."""

    since: Time
    until: Time


class LimitOver(Answer, frozen=True, kw_only=True, tag="limit.over", tag_field="kind"):
    """The agent does not wait for a usage limit any more."""


class ReportWritten(Answer, frozen=True, kw_only=True, tag="report.written", tag_field="kind"):
    """A command has answered with a report. `severities` counts its findings."""

    title: str
    preset: str | None
    version: int
    severities: dict[Severity, int]
    problem: str | None


class HaltBegun(Answer, frozen=True, kw_only=True, tag="halt.begun", tag_field="kind"):
    """An emergency stop has begun."""

    by_name: str
    reason: str | None


class HaltLifted(Answer, frozen=True, kw_only=True, tag="halt.lifted", tag_field="kind"):
    """The emergency stop was lifted. `reason` is that of its begin."""

    by_name: str | None
    reason: str | None


class Action(Answer, frozen=True, kw_only=True):
    """What can be done about an event: a request with this `method` and `path`, and a body of the schema `body`, if it
    has one. `role` is the lowest role that may send it."""

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    body: str | None
    role: Role


class Event(Answer, frozen=True, kw_only=True):
    """Something that has happened. `position` is its place in the feed, and the cursor after it. `subject_id` is the
    request, the report or the halt. `agent_name` is the agent's present name, null if the agent was deleted. `page` is
    the page about it, as a path below the control center's URL."""

    position: int
    at: Time
    kind: EventKind
    agent_id: UUID | None
    agent_name: str | None
    command_id: UUID | None
    conversation_id: UUID | None
    subject_id: UUID | None
    detail: (
        RequestAsked
        | RequestAnswered
        | RequestWithdrawn
        | CommandEnded
        | AgentStatusChanged
        | LimitReached
        | LimitOver
        | ReportWritten
        | HaltBegun
        | HaltLifted
    )
    page: str
    actions: list[Action]


class Events(Answer, frozen=True, kw_only=True):
    """Events, oldest first. `next_after` is the cursor of the next request: after these events, and after those that
    the filter has left out. `more` says that there are more events now."""

    events: list[Event]
    next_after: int
    more: bool


class EventsQuery(Query, frozen=True, kw_only=True):
    """Events after the cursor `after`: a `position`, or a `next_after`. Without it, from the oldest event that is kept;
    with `latest`, only those that happen from now on. `kind` is a kind, or the first part of kinds."""

    after: Cursor | Literal["latest"] | None = None
    kind: EventKind | EventFamily | None = None
    agent_id: UUID | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS)] = 100
