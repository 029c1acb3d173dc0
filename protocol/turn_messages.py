"""What a command says of its turn: how the CLI is to be started, and what became of the conversation."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from onsembl.protocol.attachments import MAX_ATTACHMENTS, Attachment
from onsembl.protocol.field_types import END, NO_NUL, ShortText
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.protocol.vendor_limits import MAX_WINDOWS, RateWindow, VendorLimit

ConversationId = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*" + END)]
"""A coding CLI's own id of a conversation, by which it resumes. It becomes an argument of the CLI."""
ModelName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*" + END)]
Effort = Literal["low", "medium", "high", "max"]
Tokens = Annotated[int, Meta(ge=0, le=2**53)]

MAX_DENIALS = 20
MAX_TITLE = 200
MAX_PREFACE = 20_000


class TurnSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the CLI is to be started for a turn.

    `known` is true when the CLI must know the conversation, because a turn of it has ended. With `fork_of` the
    conversation begins as a copy of that one; with `fork_at`, the copy ends with that message of it. `preface` goes
    before the prompt. The agent fetches the `attachments` from the server. With `report`, the answer is to be a report.
    """

    conversation: ConversationId
    known: bool = False
    fork_of: ConversationId | None = None
    fork_at: ConversationId | None = None
    preface: Annotated[str, Meta(max_length=MAX_PREFACE, pattern=NO_NUL)] | None = None
    model: ModelName | None = None
    effort: Effort | None = None
    permission_mode: PermissionMode = "ask"
    rules: ToolRules = NO_RULES
    attachments: Annotated[list[Attachment], Meta(max_length=MAX_ATTACHMENTS)] = []
    report: bool = False


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that was not allowed: the tool, and its main argument."""

    tool: ShortText
    title: ShortText


class TurnReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the CLI has said of the turn, and of its conversation.

    `denied` counts the tool calls that were not allowed; `denials` has the first of them. `forgotten` is true when the
    CLI does not know the conversation any more. `context_tokens` of `context_window` tokens are in use. `last_message`
    is the CLI's own id of the turn's last message, at which a fork may end. `windows` are those of the vendor's plan;
    `limit` is present if the turn ended at a limit of the vendor.
    """

    conversation: ConversationId | None = None
    model: ShortText | None = None
    folder: Annotated[str, Meta(max_length=4096, pattern=NO_NUL)] | None = None
    branch: ShortText | None = None
    permission_mode: ShortText | None = None
    context_tokens: Tokens | None = None
    context_window: Tokens | None = None
    denied: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    denials: Annotated[list[Denial], Meta(max_length=MAX_DENIALS)] = []
    forgotten: bool = False
    last_message: ConversationId | None = None
    windows: Annotated[list[RateWindow], Meta(max_length=MAX_WINDOWS)] = []
    limit: VendorLimit | None = None

    @property
    def tells_of_limits(self) -> bool:
        """Whether the report changes what is known of the vendor's limits."""
        return bool(self.windows) or self.limit is not None
