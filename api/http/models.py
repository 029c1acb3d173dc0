"""The models that several resources share. The models of one resource stand beside its routes. The OpenAPI document is
generated from both."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from onsembl.protocol.activity import CurrentActivity, Silence
from onsembl.protocol.field_types import Bounded, RowNumber
from onsembl.protocol.field_types import Time as Time
from onsembl.protocol.files import FileRules
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.states import AgentKind, AgentMode, AgentStatus, CommandState
from onsembl.protocol.tool_rules import ToolRules
from onsembl.protocol.vendor_limits import RateWindow


class Body(Bounded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; an unknown field is an error. A field with a default is optional."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer. Every field is present, except one that may be `UNSET`."""


class Query(Bounded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters in a query string; an unknown parameter is an error."""


class NoBody(Body, frozen=True, kw_only=True):
    """The body of a request that needs none."""


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
    permission_mode: PermissionMode
    rules: ToolRules
    problem: str | None
    """Why the agent takes no command, as on a full disk; its queue waits."""
    problem_since: Time | None
    takes_steers: bool
    """Whether the agent puts a text into its running turn."""
    takes_rules: bool
    """Whether the agent holds a turn to its rules."""
    takes_attachments: bool
    """Whether the agent gives files to its coding CLI."""
    rate_windows: list[RateWindow]
    """The windows of its vendor's plan, as its CLI has reported them last."""
    rate_windows_at: Time | None
    limited_since: Time | None
    """Since when the agent waits, because it has reached a usage limit of its vendor."""
    limited_until: Time | None
    limited_model: str | None
    cli: str | None
    """The program of its CLI, where the kind does not name it."""
    takes_forks: bool
    """Whether its CLI copies a conversation."""
    shows_files: bool
    """Whether the agent shows the files of its working folder: it was started with `--files`."""
    file_rules: FileRules
    """What operators see of these files; a field that is missing has its default."""
    folder: str
    """The folder in which its commands run; empty if the agent does not tell."""
    branch: str | None
    """The git branch of the folder, or a short commit id, as of the last command's end."""


class LastCommand(Answer, frozen=True, kw_only=True):
    """How a command has ended; the text is its beginning. `last_line` is the last line of its output, or the last step
    of its turn in words. `cost_usd` is the least that it cost if its usage is `partial`."""

    id: UUID
    state: CommandState
    denied: int
    text: str
    exit_code: int | None
    signal: int | None
    ended_at: Time
    last_line: str | None
    cost_usd: float | None
    partial: bool


class AgentNow(Agent, frozen=True, kw_only=True):
    """An agent, with what it does at present. Live updates have the agent's row only."""

    activity: CurrentActivity
    silence: Silence | None
    """An unusual silence of an agent that works."""
    queued: int
    """How many commands wait in its queue."""
    last_command: LastCommand | None
    """The command that has ended last."""


class PageQuery(Query, frozen=True, kw_only=True):
    """A page of a list that starts with the newest: the `limit` items after the item `before`."""

    before: RowNumber | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ProblemDetails(Answer, frozen=True, kw_only=True):
    """An error (RFC 9457). The fields after `detail` are present where they apply: `fields` names the invalid variables
    of a preset, `state` is the state of the command, `revision` the current revision, `replaceable` says that an agent
    of this name may be replaced, `oldest` and `latest` are the cursors before the oldest and after the newest
    event, and `request_id` finds the error in the server's log."""

    type: str
    title: str
    status: int
    detail: str
    fields: dict[str, str] | UnsetType = UNSET
    state: CommandState | UnsetType = UNSET
    revision: int | UnsetType = UNSET
    replaceable: bool | UnsetType = UNSET
    oldest: int | UnsetType = UNSET
    latest: int | UnsetType = UNSET
    request_id: str | UnsetType | None = UNSET
