"""Conversations with coding CLIs: rename, fork and import them."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import AgentKind
from onsembl.sql import agents, audit, conversations
from onsembl.sql.database import Connection

PREFACE = (
    "This continues an earlier conversation, which is lost. Its last answer was:\n\n{answer}\n\nThe next prompt is:"
)


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


async def fork(
    conn: Connection, conversation_id: UUID, title: str | None, after: CommandId | None, actor: audit.Actor
) -> DictRow:
    """Begin a conversation as a copy of another one, which goes on by itself; the CLI makes the copy at the first turn.

    The copy ends with the turn `after`. Raises ConversationNotFoundError, or ConversationRejectedError if the CLI does
    not know the original, or the place of the turn in it, or copies no conversations.
    """
    original = await _get(conn, conversation_id)
    if original["state"] == "forgotten":
        raise ConversationRejectedError("The CLI does not know this conversation any more.")
    if original["turns"] == 0 and not original["imported"]:
        raise ConversationRejectedError("The conversation has no turn yet.")
    agent = await agents.get(conn, AgentId(original["agent_id"]))
    if agent is not None and not agent["takes_forks"]:
        raise ConversationRejectedError(f"The CLI of {agent['name']} copies no conversations. Begin a new one.")
    made = await conversations.fork(conn, conversation_id, title, at=await _end_of_turn(conn, conversation_id, after))
    if made is None:
        raise ConversationNotFoundError("Conversation not found.")
    detail = {"from": str(conversation_id)} | ({"after": str(after)} if after is not None else {})
    await _audit(conn, actor, "conversation.forked", made, detail)
    return await _get(conn, made)


async def _end_of_turn(conn: Connection, conversation_id: UUID, after: CommandId | None) -> str | None:
    """The CLI's id of the last message of a turn; None for the whole conversation."""
    if after is None:
        return None
    turn = await conversations.turn(conn, conversation_id, after)
    if turn is None:
        raise ConversationRejectedError("The conversation has no such turn, or it has not ended.")
    if turn["last_message"] is None and not turn["latest"]:
        raise ConversationRejectedError("The agent did not report where this turn ends in the conversation.")
    return turn["last_message"]


async def begin_anew(conn: Connection, conversation_id: UUID, title: str | None, actor: audit.Actor) -> DictRow:
    """Begin a conversation in the place of a forgotten one: its first prompt begins with the last answer.

    Raises ConversationNotFoundError, or ConversationRejectedError if the CLI knows the conversation, or no answer is
    stored.
    """
    original = await _get(conn, conversation_id)
    if original["state"] != "forgotten":
        raise ConversationRejectedError("The CLI knows this conversation: continue it.")
    answer = await conversations.last_answer(conn, conversation_id)
    if answer is None:
        raise ConversationRejectedError("No answer of this conversation is stored. Begin a new one.")
    made = await conversations.fork(conn, conversation_id, title, preface=PREFACE.format(answer=answer))
    if made is None:
        raise ConversationNotFoundError("Conversation not found.")
    await _audit(conn, actor, "conversation.begun_anew", made, {"from": str(conversation_id)})
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
    if not AgentKind(agent["kind"]).converses:
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
