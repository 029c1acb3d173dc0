"""The REST API: agents, commands, enrolment."""

from __future__ import annotations

import secrets

from psycopg.rows import DictRow

from onsembl.api import (
    access_routes,
    agent_control_routes,
    audit_routes,
    device_routes,
    halt_routes,
    recording_routes,
    search_routes,
)
from onsembl.api.endpoint import Call, Endpoint
from onsembl.api.models import (
    Agent,
    AgentCredentials,
    Agents,
    CancelRequest,
    Command,
    CommandQuery,
    Commands,
    Enrolment,
    EnrolmentToken,
    LoggedOut,
    Me,
    NewCommand,
    NewEnrolmentToken,
    NoBody,
)
from onsembl.api.problems import Problem
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import CommandState, Role
from onsembl.sql import agents, audit, commands, enrolment
from onsembl.tasks.cancel import request_cancel
from onsembl.tasks.line import promote


async def read_me(call: Call[NoBody]) -> Me:
    operator = call.signed_in
    assert operator.role is not None, "authorize() lets nobody in without one"
    return Me(id=operator.id, email=operator.email, role=operator.role)


async def list_agents(call: Call[NoBody]) -> dict[str, list[DictRow]]:
    async with call.services.pool.connection() as conn:
        return {"agents": await agents.list_agents(conn)}


async def read_agent(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = await agents.get(conn, AgentId(call.id("agent_id")))
    if row is None:
        raise Problem(404, "There is no such agent.")
    return row


async def create_command(call: Call[NewCommand]) -> DictRow:
    """The row is written and, if the agent is free, becomes a job in the same transaction."""
    agent_id = AgentId(call.id("agent_id"))
    operator = call.signed_in
    async with call.services.pool.connection() as conn:
        agent = await agents.lock(conn, agent_id)
        if agent is None:
            raise Problem(404, "There is no such agent.")
        if agent["disabled_at"] is not None:
            raise Problem(409, "The agent is disabled.")
        row = await commands.insert(conn, agent_id, call.body.text, call.body.priority, operator.id, operator.email)
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="command.requested",
                target_kind="command",
                target_id=str(row["id"]),
                detail={"agent_id": str(agent_id), "priority": call.body.priority},
            ),
        )
        promoted = await promote(conn, agent_id)
        return promoted if promoted is not None and promoted["id"] == row["id"] else row


async def list_commands(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(CommandQuery)
    agent_id = AgentId(query.agent_id) if query.agent_id is not None else None
    async with call.services.pool.connection() as conn:
        rows = await commands.history(conn, agent_id, query.state, query.before, query.limit + 1)
    page = rows[: query.limit]
    return {"commands": page, "next_before": page[-1]["seq"] if len(rows) > query.limit else None}


async def read_command(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = await commands.get(conn, CommandId(call.id("command_id")))
    if row is None:
        raise Problem(404, "There is no such command.")
    return row


async def cancel_command(call: Call[CancelRequest]) -> DictRow:
    """A queued command is cancelled at once; one that runs is interrupted, and cancelled when its processes are
    gone."""
    command_id = CommandId(call.id("command_id"))
    async with call.services.pool.connection() as conn:
        row = await request_cancel(conn, command_id, call.actor, call.body.reason)
        if row is None:
            found = await commands.get(conn, command_id)
            if found is None:
                raise Problem(404, "There is no such command.")
            state = CommandState(found["state"])
            raise Problem(409, f"The command is over: {state}.", state=state)
    return row


async def create_enrolment_token(call: Call[NewEnrolmentToken]) -> EnrolmentToken:
    token = "one_" + secrets.token_urlsafe(32)
    body = call.body
    async with call.services.pool.connection() as conn:
        row = await enrolment.add_token(conn, token, body.name_pattern, body.expires_in, call.signed_in.id)
        await audit.write(
            conn,
            audit.Event(actor=call.actor, action="enrolment_token.created", detail={"name_pattern": body.name_pattern}),
        )
    return EnrolmentToken(token=token, name_pattern=row["name_pattern"], expires_at=row["expires_at"])


async def enrol_agent(call: Call[Enrolment]) -> AgentCredentials:
    return await call.services.agent_tokens.enrol(call.token, call.body, call.address)


async def log_out_agent(call: Call[NoBody]) -> LoggedOut:
    await call.services.agent_tokens.log_out(call.token, call.address)
    return LoggedOut()


async def refresh_agent(call: Call[NoBody]) -> AgentCredentials:
    return await call.services.agent_tokens.refresh(call.token, call.address)


ENDPOINTS = [
    *access_routes.ENDPOINTS,
    *agent_control_routes.ENDPOINTS,
    *halt_routes.ENDPOINTS,
    *audit_routes.ENDPOINTS,
    *device_routes.ENDPOINTS,
    *recording_routes.ENDPOINTS,
    *search_routes.ENDPOINTS,
    Endpoint(method="GET", path="/v1/me", handler=read_me, summary="Who am I?", answer=Me),
    Endpoint(method="GET", path="/v1/agents", handler=list_agents, summary="Every agent, by name", answer=Agents),
    Endpoint(
        method="GET",
        path="/v1/agents/{agent_id:uuid}",
        handler=read_agent,
        summary="One agent",
        answer=Agent,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/commands",
        handler=create_command,
        summary="Put a command in an agent's line",
        answer=Command,
        role=Role.OPERATOR,
        body=NewCommand,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/commands",
        handler=list_commands,
        summary="Commands, newest first",
        answer=Commands,
        query=CommandQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/commands/{command_id:uuid}",
        handler=read_command,
        summary="One command",
        answer=Command,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/commands/{command_id:uuid}/cancel",
        handler=cancel_command,
        summary="Cancel a command",
        answer=Command,
        role=Role.OPERATOR,
        body=CancelRequest,
        status=202,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/enrolment-tokens",
        handler=create_enrolment_token,
        summary="Make a one-time token that enrols an agent",
        answer=EnrolmentToken,
        role=Role.ADMIN,
        body=NewEnrolmentToken,
        status=201,
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
        handler=refresh_agent,
        summary="Exchange an agent's refresh token",
        answer=AgentCredentials,
        role=None,
        presents="an agent's refresh token",
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/logout",
        handler=log_out_agent,
        summary="Give up an agent's credentials, its connection included",
        answer=LoggedOut,
        role=None,
        presents="an agent's refresh token",
    ),
]
