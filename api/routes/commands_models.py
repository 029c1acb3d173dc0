"""Models of commands, queues and groups."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, field

from onsembl.api.http.models import Answer, Body, PageQuery, Time
from onsembl.api.http.problems import Problem
from onsembl.fleet.commands import CommandContent
from onsembl.protocol.attachments import MAX_ATTACHMENTS, Attachment
from onsembl.protocol.field_types import NO_NUL, CommandText, EscalationStage, Label, Name, Priority, Reason
from onsembl.protocol.limits import REQUESTED_NO_LIMITS, CommandLimits, LimitName, RequestedLimits
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.queue_order import Destination
from onsembl.protocol.states import CommandState
from onsembl.protocol.tool_rules import ToolRules
from onsembl.protocol.turn_messages import Denial, Effort
from onsembl.protocol.usage import Usage

Labels = Annotated[list[Label], Meta(max_length=32)]
AgentNames = Annotated[list[Name], Meta(min_length=1, max_length=1000)]
Note = Annotated[str, Meta(max_length=10_000, pattern=NO_NUL)]
FileIds = Annotated[
    list[UUID],
    Meta(
        max_length=MAX_ATTACHMENTS,
        description="Files that the same operator has stored, of at most 10 MiB together; they go with the prompt.",
    ),
]
StateList = Annotated[str, Meta(max_length=200, pattern=NO_NUL)]
Revision = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Words = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]


class CancelStepAnswer(Answer, frozen=True, kw_only=True):
    """The latest step of the escalation that stops a command. `processes_left` of the command were alive just after the
    step. `pids` are the processes that survived the last step. `limit` is present if the command is stopped because it
    exceeded that limit."""

    step: EscalationStage
    at: Time
    processes_left: int
    pids: list[int]
    limit: LimitName | UnsetType = UNSET


class Turn(Answer, frozen=True, kw_only=True):
    """How the CLI is started for a prompt. `conversation` is the CLI's own id; with `known` the CLI continues it. With
    `fork_of` it begins as a copy of that one, which ends with its message `fork_at`. `preface` goes before the prompt.
    `rules` are those of the command and its preset; the agent's are in force as well. `attachments` are the files that
    go with the prompt. With `report` its answer is to be a report."""

    conversation: str
    known: bool
    fork_of: str | UnsetType = UNSET
    fork_at: str | UnsetType = UNSET
    preface: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    effort: Effort | UnsetType = UNSET
    permission_mode: PermissionMode | UnsetType = UNSET
    rules: ToolRules | UnsetType = UNSET
    attachments: list[Attachment] | UnsetType = UNSET
    report: bool | UnsetType = UNSET


class Command(Answer, frozen=True, kw_only=True):
    """A command: a row of `onsembl.commands`.

    A prompt is a turn of the conversation `conversation_id`. `denied` is the number of tool calls that were not
    allowed, `denials` has the first of them.

    A text that was sent into a running turn has a `steer_state`, and in `steers` the command of that turn. It is queued
    while it is `waiting` for the agent or `given` to it. `taken`: it is in the turn, as the step `steer_step`, and has
    `succeeded`. `late`: the turn ended first, so it is the next command, or was cancelled with the turn. `unknown`:
    nobody can tell whether the turn took it; its state is `lost`.

    `continues` is the command whose turn ended at a usage limit of the vendor, and which this one continues."""

    id: UUID
    seq: int
    agent_id: UUID
    text: str
    priority: Priority
    state: CommandState
    requested_by: UUID | None
    requested_by_name: str
    created_at: Time
    dispatched_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    cancel_requested_at: Time | None
    cancel_requested_by: UUID | None
    cancel_reason: str | None
    cancel_step: CancelStepAnswer | None
    exit_code: int | None
    signal: int | None
    error: str | None
    stream_id: UUID | None
    output_start: int | None
    output_end: int | None
    usage: Usage | None
    job_id: int | None
    delivery_attempts: int
    group_id: UUID | None
    preset: str | None
    position: float | None
    revision: int
    note: str
    tags: list[str]
    request_id: str | None
    limits: CommandLimits
    limit_passed: LimitName | None
    conversation_id: UUID | None
    turn: Turn | None
    denied: int
    denials: list[Denial]
    steers: UUID | None
    steer_state: Literal["waiting", "given", "taken", "late", "unknown"] | None
    steer_step: int | None
    continues: UUID | None


class Commands(Answer, frozen=True, kw_only=True):
    """A page of commands, newest first; `next_before` is where the next page starts, null on the last page.

    `last_lines` has, by the id of a command, the last line of its output so far, or the last step of its turn in words.
    """

    commands: list[Command]
    last_lines: dict[str, str]
    next_before: int | None


class NewCommand(CommandContent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command for one agent: either a text, or a preset with values for its variables. The default priority is the
    preset's, or 5. A limit that is not given is the preset's; the agent's own limits apply as well. A prompt is a turn
    of a `conversation`: a new one, the agent's latest one, or the one of this id; `model` and `effort` are for this
    turn; so is the `permission_mode`, which goes no further than the agent's. `rules` allow and deny tool calls beside
    those of the preset and the agent; they allow no more than the agent may."""

    limits: RequestedLimits = REQUESTED_NO_LIMITS


class NewAgentCommand(NewCommand, frozen=True, kw_only=True):
    """A command for one agent, as `NewCommand`.

    With `steer` it goes into the turn that the agent runs now, with the settings of that turn; with a `conversation`
    only if it runs a turn of that one. If no such turn runs, or it ends first, it is the next command of the
    conversation.
    """

    steer: bool = False
    attachments: FileIds = field(default_factory=list[UUID])


class CancelRequest(Body, frozen=True, kw_only=True):
    """A request to cancel, with an optional reason."""

    reason: Reason | None = None


class CommandQuery(PageQuery, frozen=True, kw_only=True):
    """A filter of commands. `state` is one state, or several separated by commas; every word of `q` occurs in the text
    or the note; `by` is a part of the requesting operator's name."""

    agent_id: UUID | None = None
    state: StateList | None = None
    group_id: UUID | None = None
    conversation_id: UUID | None = None
    tag: Label | None = None
    by: Words | None = None
    q: Words | None = None
    since: Time | None = None
    until: Time | None = None

    def states(self) -> list[CommandState] | None:
        """The states in `state`. Raises Problem 400."""
        if self.state is None:
            return None
        try:
            return [CommandState(name) for name in self.state.split(",")]
        except ValueError as error:
            raise Problem(400, f"The query is invalid: {error}.") from error


class EditCommand(Body, frozen=True, kw_only=True):
    """The fields to change. `text`, `priority` and `limits` of a queued command can be changed, with `revision` only if
    it is still the command's revision. `note` and `tags` can always be changed."""

    text: CommandText | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    limits: RequestedLimits | UnsetType = UNSET
    note: Note | UnsetType = UNSET
    tags: Labels | UnsetType = UNSET
    revision: Revision | None = None


class MoveCommand(Body, frozen=True, kw_only=True):
    """The new place of a queued command in its agent's queue: first, last, or next to another command, whose priority
    it takes."""

    to: Destination
    other: UUID | None = None


class ReassignCommand(Body, frozen=True, kw_only=True):
    """The agent that gets a queued command in the place of its own."""

    agent_id: UUID


class QueuedCommand(Answer, frozen=True, kw_only=True):
    """The place of a queued command: the number of commands `ahead` of it, and the seconds until its estimated start,
    null when there is no estimate."""

    command_id: UUID
    ahead: int
    starts_in: float | None


class AgentQueue(Answer, frozen=True, kw_only=True):
    """An agent's queue, in order. `typical_seconds` is the median duration of its latest commands."""

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
        """Raise Problem 422 unless exactly one field is given."""
        if (self.agents is not None) + (self.labels is not None) + self.all != 1:
            raise Problem(422, "The body is invalid: give exactly one of `agents`, `labels` and `all` as the target.")


class NewGroup(NewCommand, frozen=True, kw_only=True):
    """A command for several agents."""

    target: Target
    attachments: FileIds = field(default_factory=list[UUID])


class GroupSummary(Answer, frozen=True, kw_only=True):
    """A group: one command for several agents. `counts` is the number of its commands in each state."""

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
    """A group with its commands, one for each agent."""

    commands: list[Command]


class Groups(Answer, frozen=True, kw_only=True):
    """A page of groups, newest first; `next_before` is where the next page starts, null on the last page."""

    groups: list[GroupSummary]
    next_before: int | None


class AgentLabels(Body, frozen=True, kw_only=True):
    """All labels of an agent; they replace the existing labels."""

    labels: Labels


class TagCount(Answer, frozen=True, kw_only=True):
    """A tag, and the number of recent commands that have it."""

    tag: str
    count: int


class Tags(Answer, frozen=True, kw_only=True):
    """The tags of commands, the most used first."""

    tags: list[TagCount]
