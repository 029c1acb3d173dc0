"""Requests and answers about commands, their lines and their groups."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from onsembl.api.http.models import Answer, Body, Command, NewCommand, Query, Time
from onsembl.api.http.problems import Problem
from onsembl.protocol.field_types import NO_NUL, CommandText, Priority
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.queue_order import Destination
from onsembl.protocol.states import CommandState

Label = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]
Labels = Annotated[list[Label], Meta(max_length=32)]
AgentNames = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=1000)]
Note = Annotated[str, Meta(max_length=10_000, pattern=NO_NUL)]
Words = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]


class CommandQuery(Query, frozen=True, kw_only=True):
    """Which commands. `state` may be several, with commas between; all words of `q` occur in the text or the note; `by`
    is a part of the name of who asked."""

    agent_id: UUID | None = None
    state: Annotated[str, Meta(max_length=100)] | None = None
    group_id: UUID | None = None
    tag: Label | None = None
    by: Words | None = None
    q: Words | None = None
    since: Time | None = None
    until: Time | None = None
    before: Annotated[int, Meta(ge=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50

    def states(self) -> list[CommandState] | None:
        """Raises Problem 400."""
        if self.state is None:
            return None
        try:
            return [CommandState(name) for name in self.state.split(",")]
        except ValueError as error:
            raise Problem(400, f"The query is invalid: {error}.") from error


class EditCommand(Body, frozen=True, kw_only=True):
    """What is to change. `text`, `priority` and `limits` can be changed while the command waits; with `revision` only
    if nobody has changed it since. `note` and `tags` can be changed always."""

    text: CommandText | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    limits: CommandLimits | UnsetType = UNSET
    note: Note | UnsetType = UNSET
    tags: Labels | UnsetType = UNSET
    revision: Annotated[int, Meta(ge=0)] | None = None


class MoveCommand(Body, frozen=True, kw_only=True):
    """Where in its agent's line a waiting command goes: to an end, or beside another one, whose priority it takes."""

    to: Destination
    other: UUID | None = None


class QueuedCommand(Answer, frozen=True, kw_only=True):
    """How many wait before it, and in how many seconds it will probably start; null when nobody can tell."""

    command_id: UUID
    ahead: int
    starts_in: float | None


class AgentQueue(Answer, frozen=True, kw_only=True):
    """An agent's line in its order. `typical_seconds` is the median of how long its latest commands ran."""

    agent_id: UUID
    typical_seconds: float | None
    waiting: list[QueuedCommand]


class Target(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The agents that get a command: those with these names or ids, those with all of these labels, or all agents.
    Exactly one field is given."""

    agents: AgentNames | None = None
    labels: Annotated[list[Label], Meta(min_length=1, max_length=32)] | None = None
    all: bool = False

    def check(self) -> None:
        """Raises Problem 422."""
        if (self.agents is not None) + (self.labels is not None) + self.all != 1:
            raise Problem(422, "The body is invalid: give exactly one of `agents`, `labels` and `all` as the target.")


class NewGroup(NewCommand, frozen=True, kw_only=True):
    """One instruction for several agents."""

    target: Target


class GroupSummary(Answer, frozen=True, kw_only=True):
    """One request for several agents; `counts` has how many of its commands are in which state."""

    id: UUID
    seq: int
    text: str
    preset: str | None
    priority: Priority
    limits: CommandLimits
    target: Target
    requested_by: UUID | None
    requested_by_name: str
    created_at: Time
    counts: dict[CommandState, int]


class Group(GroupSummary, frozen=True, kw_only=True):
    """The same with its commands, one an agent."""

    commands: list[Command]


class Groups(Answer, frozen=True, kw_only=True):
    """A page of groups, newest first. `next_before` asks for the next page."""

    groups: list[GroupSummary]
    next_before: int | None


class AgentLabels(Body, frozen=True, kw_only=True):
    """All labels of an agent: those that are not named are gone."""

    labels: Labels


class TagCount(Answer, frozen=True, kw_only=True):
    """A tag, and how many of the newest commands have it."""

    tag: str
    count: int


class Tags(Answer, frozen=True, kw_only=True):
    """Tags in use, the most used first."""

    tags: list[TagCount]
