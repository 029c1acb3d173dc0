"""Conversations with coding CLIs: rename, fork and import them."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import AgentKind
from onsembl.sql import agents, audit, conversations
from onsembl.sql.database import Connection


class ConversationNotFoundError(Exception):
    """There is no such conversation, or no such agent."""


class ConversationRejectedError(Exception):
    """The conversation cannot be taken up or copied; the text says why."""


async def rename(conn: Connection, conversation_id: UUID, title: str, actor: audit.Actor) -> DictRow:
    """Give a conversation another title. Raises ConversationNotFoundError."""
    before = await _get(conn, conversation_id)
    await conversations.rename(conn, conversation_id, title)
    await _audit(conn, actor, "conversation.renamed", conversation_id, {"title": [before["title"], title]})
    return await _get(conn, conversation_id)


async def fork(conn: Connection, conversation_id: UUID, title: str | None, actor: audit.Actor) -> DictRow:
    """Begin a conversation as a copy of another one, which goes on by itself; the CLI makes the copy at the first turn.

    Raises ConversationNotFoundError, or ConversationRejectedError if the CLI does not know the original.
    """
    original = await _get(conn, conversation_id)
    if original["state"] == "forgotten":
        raise ConversationRejectedError("The CLI does not know this conversation any more.")
    if original["turns"] == 0 and not original["imported"]:
        raise ConversationRejectedError("The conversation has no turn yet.")
    made = await conversations.fork(conn, conversation_id, title)
    if made is None:
        raise ConversationNotFoundError("Conversation not found.")
    await _audit(conn, actor, "conversation.forked", made, {"from": str(conversation_id)})
    return await _get(conn, made)


async def import_one(
    conn: Connection, agent_id: AgentId, cli_id: str, title: str | None, actor: audit.Actor
) -> DictRow:
    """Take up a conversation that was begun outside, by the CLI's own id.

    Raises ConversationNotFoundError if there is no such agent, or ConversationRejectedError.
    """
    agent = await agents.get(conn, agent_id)
    if agent is None:
        raise ConversationNotFoundError("Agent not found.")
    if agent["kind"] == AgentKind.SHELL:
        raise ConversationRejectedError("An agent of the kind shell has no conversations.")
    made = await conversations.import_one(conn, agent_id, cli_id, title or f"Imported {cli_id}"[:80])
    if made is None:
        raise ConversationRejectedError("This conversation is here already.")
    detail = {"agent_id": str(agent_id), "cli_id": cli_id}
    await _audit(conn, actor, "conversation.imported", made, detail)
    return await _get(conn, made)


async def _get(conn: Connection, conversation_id: UUID) -> DictRow:
    row = await conversations.get(conn, conversation_id)
    if row is None:
        raise ConversationNotFoundError("Conversation not found.")
    return row


async def _audit(
    conn: Connection, actor: audit.Actor, action: str, conversation_id: UUID, detail: Mapping[str, object]
) -> None:
    await audit.write(
        conn,
        audit.Event(
            actor=actor, action=action, target_kind="conversation", target_id=str(conversation_id), detail=detail
        ),
    )
