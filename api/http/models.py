"""Requests and answers of the REST API. The OpenAPI document is generated from these types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from onsembl.fleet.commands import CommandContent
from onsembl.protocol.field_types import EscalationStage, Name, Priority, Reason
from onsembl.protocol.limits import CommandLimits, LimitName
from onsembl.protocol.states import AgentKind, AgentMode, AgentStatus, CommandState, Role
from onsembl.protocol.usage import Usage

Time = Annotated[datetime, Meta(tz=True)]
"""A time with its offset from UTC: 2026-01-31T12:00:00Z."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; an unknown field is an error. A field with a default is optional."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer. Every field is present, except one that may be `UNSET`."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters in a query string; an unknown parameter is an error."""


class NoBody(Body, frozen=True, kw_only=True):
    """The body of a request that needs none."""


class Me(Answer, frozen=True, kw_only=True):
    """The operator whose access token the request presents."""

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
    created_at: Time
    disabled_at: Time | None
    status: AgentStatus
    epoch: int
    instance_id: UUID | None
    connected_at: Time | None
    disconnected_at: Time | None
    stream_id: UUID | None
    columns: int
    rows: int
    paused_at: Time | None
    paused_by_name: str | None
    labels: list[str]
    limits: CommandLimits


class Agents(Answer, frozen=True, kw_only=True):
    """All agents, by name."""

    agents: list[Agent]


class OperatorAnswer(Answer, frozen=True, kw_only=True):
    """A person who can sign in; without a role (null) the person sees nothing."""

    id: UUID
    email: str
    role: Role | None
    disabled: bool
    created_at: Time
    last_sign_in_at: Time | None


class Operators(Answer, frozen=True, kw_only=True):
    """All operators, by email address."""

    operators: list[OperatorAnswer]


class AuditEvent(Answer, frozen=True, kw_only=True):
    """An event of the audit log."""

    id: int
    at: Time
    actor_kind: str
    actor_id: UUID | None
    actor_name: str
    action: str
    target_kind: str
    target_id: str
    address: str
    outcome: str
    detail: Annotated[dict[str, Any], Meta(extra_json_schema={"additionalProperties": True})]


class AuditPage(Answer, frozen=True, kw_only=True):
    """A page of the audit log, newest first; `next_before` is where the next page starts, null on the last page."""

    events: list[AuditEvent]
    next_before: int | None


class AuditChain(Answer, frozen=True, kw_only=True):
    """The state of the audit log's hash chain: the number, the hash and the time of its last link, and the number of
    `unsealed` rows, which have no link yet."""

    seq: int
    hash: str
    at: Time
    unsealed: int


class AlertAnswer(Answer, frozen=True, kw_only=True):
    """An alert for operators: a row of `onsembl.alerts`."""

    id: int
    at: Time
    kind: str
    agent_id: UUID | None
    text: str
    acknowledged_at: Time | None
    acknowledged_by: UUID | None


class Alerts(Answer, frozen=True, kw_only=True):
    """Alerts: unacknowledged ones first, then the latest others."""

    alerts: list[AlertAnswer]


class NewCommand(CommandContent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command for one agent: either a text, or a preset with values for its variables. The default priority is the
    preset's, or 5. A limit that is not given is the preset's; the agent's own limits apply as well."""


class CancelStepAnswer(Answer, frozen=True, kw_only=True):
    """The latest step of the escalation that stops a command. `processes_left` of the command were alive just after the
    step. `pids` are the processes that survived the last step. `limit` is present if the command is stopped because it
    exceeded that limit."""

    step: EscalationStage
    at: Time
    processes_left: int
    pids: list[int]
    limit: LimitName | UnsetType = UNSET


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


class Commands(Answer, frozen=True, kw_only=True):
    """A page of commands, newest first; `next_before` is where the next page starts, null on the last page."""

    commands: list[Command]
    next_before: int | None


class PageQuery(Query, frozen=True, kw_only=True):
    """A page of a list that starts with the newest: the `limit` items after the item `before`."""

    before: Annotated[int, Meta(ge=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class CancelRequest(Body, frozen=True, kw_only=True):
    """A request to cancel, with an optional reason."""

    reason: Reason | None = None


class NewEnrolmentToken(Body, frozen=True, kw_only=True):
    """A one-time token to enrol an agent whose name matches a glob pattern. It expires after `expires_in` seconds."""

    name_pattern: Annotated[str, Meta(min_length=1, max_length=64)] = "*"
    expires_in: Annotated[int, Meta(ge=60, le=30 * 24 * 3600)] = 3600


class EnrolmentToken(Answer, frozen=True, kw_only=True):
    """A new one-time token. It is shown only once."""

    id: UUID
    token: str
    name_pattern: str
    expires_at: Time


class UnusedEnrolmentToken(Answer, frozen=True, kw_only=True):
    """An unused one-time token, without the token itself."""

    id: UUID
    name_pattern: str
    created_by_name: str
    created_at: Time
    expires_at: Time


class UnusedEnrolmentTokens(Answer, frozen=True, kw_only=True):
    """Unused one-time tokens, newest first."""

    tokens: list[UnusedEnrolmentToken]


class DeviceRequest(Answer, frozen=True, kw_only=True):
    """An agent that asks for approval: a row of `onsembl.device_requests`."""

    id: UUID
    user_code: str
    name: str
    kind: AgentKind
    mode: AgentMode
    host: str
    platform: str
    address: str
    created_at: Time
    expires_at: Time
    state: Literal["waiting", "approved", "refused"]
    decided_at: Time | None
    decided_by: UUID | None
    agent_id: UUID | None


class DeviceRequests(Answer, frozen=True, kw_only=True):
    """Agents that wait for approval, newest first."""

    requests: list[DeviceRequest]


class DeviceDecision(Body, frozen=True, kw_only=True):
    """The approval of an agent, under another name if one is given. With `replace` the agent replaces the existing
    agent of that name, whose credentials are revoked."""

    name: Name | None = None
    replace: bool = False


class LoggedOut(Answer, frozen=True, kw_only=True):
    """The agent's credentials are revoked."""


class ProblemDetails(Answer, frozen=True, kw_only=True):
    """An error (RFC 9457). The fields after `detail` are present where they apply: `fields` names the invalid variables
    of a preset, `state` is the state of the command, `revision` the current revision, `replaceable` says that an agent
    of this name may be replaced, and `request_id` finds the error in the server's log."""

    type: str
    title: str
    status: int
    detail: str
    fields: dict[str, str] | UnsetType = UNSET
    state: CommandState | UnsetType = UNSET
    revision: int | UnsetType = UNSET
    replaceable: bool | UnsetType = UNSET
    request_id: str | UnsetType | None = UNSET
