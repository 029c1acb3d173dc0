"""Models of conversations."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, Body, PageQuery, Time
from onsembl.api.routes.commands_models import Words
from onsembl.protocol.field_types import NO_NUL
from onsembl.protocol.turn_messages import MAX_TITLE, ConversationId

Title = Annotated[str, Meta(min_length=1, max_length=MAX_TITLE, pattern=NO_NUL)]


class Conversation(Answer, frozen=True, kw_only=True):
    """A conversation with a coding CLI on one agent; its turns are commands, which `GET /v1/commands` lists by
    `conversation_id`.

    By `cli_id` the agent and its CLI name it; `own_id` is present if the CLI has chosen another id itself. `state` is
    `forgotten` when the CLI does not know the conversation any more; an `imported` one was begun outside. `tokens` and
    `cost_usd` are the sums over its turns; they are `partial` if the CLI is not known to report all tokens of each.
    `context_tokens` of `context_window` tokens were in use after the last turn. The folder, the branch, the model and
    the permission mode are those of the last turn.
    """

    id: UUID
    seq: int
    agent_id: UUID
    cli_id: str
    own_id: str | None
    title: str
    state: Literal["open", "forgotten"]
    imported: bool
    forked_from: UUID | None
    folder: str | None
    branch: str | None
    model: str | None
    permission_mode: str | None
    context_tokens: int | None
    context_window: int | None
    turns: int
    tokens: int
    cost_usd: float | None
    partial: bool
    last_command_id: UUID | None
    created_at: Time
    active_at: Time


class Conversations(Answer, frozen=True, kw_only=True):
    """A page of conversations, newest first; `next_before` is where the next page starts, null on the last page."""

    conversations: list[Conversation]
    next_before: int | None


class ConversationQuery(PageQuery, frozen=True, kw_only=True):
    """A filter of conversations: of one agent, with these words in the title."""

    agent_id: UUID | None = None
    q: Words | None = None


class RenameConversation(Body, frozen=True, kw_only=True):
    """The new title."""

    title: Title


class ForkConversation(Body, frozen=True, kw_only=True):
    """A copy of a conversation; without a title it has the title of the original. With `after`, the copy ends with that
    turn, which is a command."""

    title: Title | None = None
    after: UUID | None = None


class BeginAnew(Body, frozen=True, kw_only=True):
    """A new conversation in the place of a forgotten one; without a title it has the title of that one."""

    title: Title | None = None


class ImportConversation(Body, frozen=True, kw_only=True):
    """A conversation that was begun outside, by the id that the CLI of the agent knows it by."""

    cli_id: ConversationId
    title: Title | None = None
