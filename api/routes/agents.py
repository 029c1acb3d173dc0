"""Agents: list and read them; their enrolment and tokens; and the signed-in operator."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import AgentNow, Answer, NoBody
from onsembl.api.http.problems import found
from onsembl.fleet import activities
from onsembl.fleet.activities import Present
from onsembl.protocol.activity import AgentActivity, CurrentActivity
from onsembl.protocol.enrolment import AgentCredentials, Enrolment
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import agents, queues
from onsembl.sql.database import Connection


class Me(Answer, frozen=True, kw_only=True):
    """The operator whose access token the request presents."""

    id: UUID
    email: str
    role: Role
    read_only: Annotated[bool, Meta(description="Whether the database takes no changes at present.")]


class Agents(Answer, frozen=True, kw_only=True):
    """All agents, by name."""

    agents: list[AgentNow]


class LoggedOut(Answer, frozen=True, kw_only=True):
    """The agent's credentials are revoked."""


async def read_current_operator(call: Call[NoBody]) -> Me:
    operator = call.signed_in
    assert operator.role is not None, "authorize() lets nobody in without one"
    read_only = call.services.database.read_only
    return Me(id=operator.id, email=operator.email, role=operator.role, read_only=read_only)


async def list_agents(call: Call[NoBody]) -> dict[str, list[dict[str, Any]]]:
    async with call.services.pool.connection() as conn:
        return {"agents": await _as_now(conn, await agents.list_agents(conn), None)}


async def read_agent(call: Call[NoBody]) -> dict[str, Any]:
    agent_id = AgentId(call.id("agent_id"))
    async with call.services.pool.connection() as conn:
        row = found(await agents.get(conn, agent_id), "agent")
        [now] = await _as_now(conn, [row], [agent_id])
    return now


async def _as_now(conn: Connection, rows: list[DictRow], agent_ids: list[AgentId] | None) -> list[dict[str, Any]]:
    """The agents' rows with what each does at present, its queue's length and the end of its last command."""
    now = await activities.present(conn, agent_ids)
    queued = await queues.lengths(conn, agent_ids)
    last = await queues.last_ended(conn, agent_ids)
    gone = Present(CurrentActivity(name=AgentActivity.OFFLINE), None)  # it was deleted meanwhile
    return [
        {
            **row,
            "activity": now.get(row["id"], gone).activity,
            "silence": now.get(row["id"], gone).silence,
            "queued": queued.get(row["id"], 0),
            "last_command": last.get(row["id"]),
        }
        for row in rows
    ]


async def enrol_agent(call: Call[Enrolment]) -> AgentCredentials:
    return await call.services.agent_tokens.enrol(call.token, call.body, call.address)


async def log_out_agent(call: Call[NoBody]) -> LoggedOut:
    await call.services.agent_tokens.log_out(call.token, call.address)
    return LoggedOut()


async def refresh_agent_token(call: Call[NoBody]) -> AgentCredentials:
    return await call.services.agent_tokens.refresh(call.token, call.address)


ENDPOINTS = [
    Endpoint(
        method="GET", path="/v1/me", handler=read_current_operator, summary="Read the signed-in operator", answer=Me
    ),
    Endpoint(method="GET", path="/v1/agents", handler=list_agents, summary="List agents, by name", answer=Agents),
    Endpoint(
        method="GET",
        path="/v1/agents/{agent_id:uuid}",
        handler=read_agent,
        summary="Read an agent",
        answer=AgentNow,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/enrol",
        handler=enrol_agent,
        summary="Enrol an agent",
        answer=AgentCredentials,
        role=None,
        presents="a one-time enrolment token",
        body=Enrolment,
        status=201,
        problems=(403, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/token",
        handler=refresh_agent_token,
        summary="Exchange an agent's refresh token",
        answer=AgentCredentials,
        role=None,
        presents="an agent's refresh token",
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/logout",
        handler=log_out_agent,
        summary="Revoke an agent's credentials and close its connection",
        answer=LoggedOut,
        role=None,
        presents="an agent's refresh token",
    ),
]
