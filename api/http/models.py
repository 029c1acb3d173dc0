"""Requests and answers of the REST API. The OpenAPI document is generated from these types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import CommandText, Name, Priority, Reason
from onsembl.protocol.limits import NO_LIMITS, CommandLimits, LimitName
from onsembl.protocol.presets import Value, Values
from onsembl.protocol.states import AgentKind, AgentMode, AgentStatus, CommandState, Role


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body: a field that is not known is an error."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a route answers."""


class NoBody(Body, frozen=True, kw_only=True):
    """For routes that take none."""


class Me(Answer, frozen=True, kw_only=True):
    """Who the token says is asking."""

    id: UUID
    email: str
    role: Role


class Agent(Answer, frozen=True, kw_only=True):
    """An enrolled agent: a row of `onsembl.agents`."""

    id: UUID
    name: str
    kind: AgentKind
    mode: AgentMode
    host: str
    platform: str
    version: str
    created_at: datetime
    disabled_at: datetime | None
    status: AgentStatus
    epoch: int
    instance_id: UUID | None
    connected_at: datetime | None
    disconnected_at: datetime | None
    stream_id: UUID | None
    columns: int
    rows: int
    paused_at: datetime | None
    paused_by_name: str | None
    labels: list[str]
    limits: CommandLimits


class Agents(Answer, frozen=True, kw_only=True):
    """Every agent, by name."""

    agents: list[Agent]


class OperatorAnswer(Answer, frozen=True, kw_only=True):
    """A person who may sign in; `role` is null for one who then sees nothing."""

    id: UUID
    email: str
    role: Role | None
    disabled: bool
    created_at: datetime
    last_sign_in_at: datetime | None


class Operators(Answer, frozen=True, kw_only=True):
    """Everyone who may sign in, by address."""

    operators: list[OperatorAnswer]


class AuditEvent(Answer, frozen=True, kw_only=True):
    """A row of the audit log."""

    id: int
    at: datetime
    actor_kind: str
    actor_id: UUID | None
    actor_name: str
    action: str
    target_kind: str
    target_id: str
    address: str
    outcome: str
    detail: dict[str, Any]


class AuditPage(Answer, frozen=True, kw_only=True):
    """A page of the audit log; `next_before` asks for the next."""

    events: list[AuditEvent]
    next_before: int | None


class AuditChain(Answer, frozen=True, kw_only=True):
    """Where the audit log's chain of hashes stands: the last link's number and hash, since when, and how many rows are
    not in it yet."""

    seq: int
    hash: str
    at: datetime
    unsealed: int


class AlertAnswer(Answer, frozen=True, kw_only=True):
    """What an operator should look at: a row of `onsembl.alerts`."""

    id: int
    at: datetime
    kind: str
    agent_id: UUID | None
    text: str
    acknowledged_at: datetime | None
    acknowledged_by: UUID | None


class Alerts(Answer, frozen=True, kw_only=True):
    """Those that wait first, then the latest others."""

    alerts: list[AlertAnswer]


class Wording(Body, frozen=True, kw_only=True):
    """What agents are told: either a text, or a preset with values for its variables. Without a priority it has the
    preset's, or 5; a limit that is not given is the preset's, and an agent's own limits are never passed."""

    text: CommandText | None = None
    preset: Name | None = None
    values: Values = msgspec.field(default_factory=dict[str, Value])
    priority: Priority | None = None
    limits: CommandLimits = NO_LIMITS


class NewCommand(Wording, frozen=True, kw_only=True):
    """An instruction for one agent."""


class Command(Answer, frozen=True, kw_only=True):
    """A command: a row of `onsembl.commands`."""

    id: UUID
    seq: int
    agent_id: UUID
    text: str
    priority: Priority
    state: CommandState
    requested_by: UUID | None
    requested_by_name: str
    created_at: datetime
    dispatched_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_requested_by: UUID | None
    cancel_reason: str | None
    cancel_step: dict[str, Any] | None
    exit_code: int | None
    signal: int | None
    error: str | None
    stream_id: UUID | None
    output_start: int | None
    output_end: int | None
    usage: dict[str, Any] | None
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


class Commands(Answer, frozen=True, kw_only=True):
    """A page of commands, newest first. `next_before` asks for the next page; None on the last."""

    commands: list[Command]
    next_before: int | None


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of a list whose newest come first."""

    before: Annotated[int, Meta(ge=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class CancelRequest(Body, frozen=True, kw_only=True):
    """Why, if the operator says."""

    reason: Reason | None = None


class NewEnrolmentToken(Body, frozen=True, kw_only=True):
    """A one-time token to enrol an agent whose name fits a glob pattern, for `expires_in` seconds."""

    name_pattern: Annotated[str, Meta(min_length=1, max_length=64)] = "*"
    expires_in: Annotated[int, Meta(ge=60, le=30 * 24 * 3600)] = 3600


class EnrolmentToken(Answer, frozen=True, kw_only=True):
    """The token, shown this once."""

    id: UUID
    token: str
    name_pattern: str
    expires_at: datetime


class UnusedToken(Answer, frozen=True, kw_only=True):
    """A one-time token that may still be used, and who has made it."""

    id: UUID
    name_pattern: str
    created_by_name: str
    created_at: datetime
    expires_at: datetime


class UnusedTokens(Answer, frozen=True, kw_only=True):
    """Newest first."""

    tokens: list[UnusedToken]


class DeviceRequest(Answer, frozen=True, kw_only=True):
    """An agent that asks to be let in: a row of `onsembl.device_requests`."""

    id: UUID
    user_code: str
    name: str
    kind: AgentKind
    mode: AgentMode
    host: str
    platform: str
    address: str
    created_at: datetime
    expires_at: datetime
    state: Literal["waiting", "approved", "refused"]
    decided_at: datetime | None
    decided_by: UUID | None
    agent_id: UUID | None


class DeviceRequests(Answer, frozen=True, kw_only=True):
    """Those that nobody has decided on."""

    requests: list[DeviceRequest]


class DeviceDecision(Body, frozen=True, kw_only=True):
    """Let it in, under another name if one is given. `replace`: as the agent of that name that there is, whose
    credentials end."""

    name: Name | None = None
    replace: bool = False


class LoggedOut(Answer, frozen=True, kw_only=True):
    """Nothing more is to be said."""


class ProblemDetails(Answer, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
