"""Conversations with coding CLIs: list, read, rename, fork and import them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.conversations_models import (
    BeginAnew,
    Conversation,
    ConversationQuery,
    Conversations,
    ForkConversation,
    ImportConversation,
    RenameConversation,
)
from onsembl.fleet import conversations as operations
from onsembl.fleet.conversations import ConversationNotFoundError, ConversationRejectedError
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import Role
from onsembl.sql import conversations


async def list_conversations(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(ConversationQuery)
    agent_id = AgentId(query.agent_id) if query.agent_id is not None else None
    async with call.services.pool.connection() as conn:
        page = await read_page(query.limit, partial(conversations.page, conn, agent_id, query.q, query.before))
    return {"conversations": page.rows, "next_before": page.cursor("seq")}


async def read_conversation(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        return found(await conversations.get(conn, call.id("conversation_id")), "conversation")


async def rename_conversation(call: Call[RenameConversation]) -> DictRow:
    async with call.services.pool.connection() as conn:
        with _problems():
            return await operations.rename(conn, call.id("conversation_id"), call.body.title, call.actor)


async def fork_conversation(call: Call[ForkConversation]) -> DictRow:
    """Begin a conversation as a copy; the original goes on by itself."""
    async with call.services.pool.connection() as conn:
        with _problems():
            after = CommandId(call.body.after) if call.body.after is not None else None
            return await operations.fork(conn, call.id("conversation_id"), call.body.title, after, call.actor)


async def begin_conversation_anew(call: Call[BeginAnew]) -> DictRow:
    """The first prompt of the new conversation begins with the last answer of the forgotten one."""
    async with call.services.pool.connection() as conn:
        with _problems():
            return await operations.begin_anew(conn, call.id("conversation_id"), call.body.title, call.actor)


async def import_conversation(call: Call[ImportConversation]) -> DictRow:
    """Take up a conversation that was begun outside: the agent's next turn of it continues it."""
    body = call.body
    async with call.services.pool.connection() as conn:
        with _problems():
            return await operations.import_one(conn, AgentId(call.id("agent_id")), body.cli_id, body.title, call.actor)


@contextmanager
def _problems() -> Generator[None]:
    """The errors of an operation as problems."""
    try:
        yield
    except ConversationNotFoundError as error:
        raise Problem(404, str(error)) from error
    except ConversationRejectedError as error:
        raise Problem(409, str(error)) from error


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/conversations",
        handler=list_conversations,
        summary="List conversations, newest first",
        answer=Conversations,
        query=ConversationQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/conversations/{conversation_id:uuid}",
        handler=read_conversation,
        summary="Read a conversation",
        answer=Conversation,
        problems=(404,),
    ),
    Endpoint(
        method="PATCH",
        path="/v1/conversations/{conversation_id:uuid}",
        handler=rename_conversation,
        summary="Rename a conversation",
        answer=Conversation,
        role=Role.OPERATOR,
        body=RenameConversation,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/conversations/{conversation_id:uuid}/fork",
        handler=fork_conversation,
        summary="Begin a conversation as a copy of another one",
        answer=Conversation,
        role=Role.OPERATOR,
        body=ForkConversation,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/conversations/{conversation_id:uuid}/anew",
        handler=begin_conversation_anew,
        summary="Begin a conversation in the place of one that its CLI has forgotten",
        answer=Conversation,
        role=Role.OPERATOR,
        body=BeginAnew,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/conversations",
        handler=import_conversation,
        summary="Take up a conversation that was begun outside",
        answer=Conversation,
        role=Role.OPERATOR,
        body=ImportConversation,
        status=201,
        problems=(404, 409),
    ),
]
