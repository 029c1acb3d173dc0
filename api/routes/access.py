"""Renaming and deleting agents; disabling and enabling agents and operators, at once and on every instance."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Agent, Answer, Body, NoBody, Time
from onsembl.api.http.problems import Problem, found
from onsembl.fleet import instance_messages
from onsembl.fleet.instance_messages import Broadcast, InstanceMessage
from onsembl.protocol.field_types import Name
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import AgentStatus, CommandState, Role
from onsembl.realtime.operators import OperatorAccount, OperatorError
from onsembl.sql import agents, audit, commands, operators


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


async def disable_agent(call: Call[NoBody]) -> DictRow:
    """Close the agent's connection, reject its tokens, and mark its running command as lost."""
    agent_id = AgentId(call.id("agent_id"))
    async with call.services.pool.connection() as conn:
        row = found(await agents.disable(conn, agent_id), "agent")
        if row["instance_id"] is not None:
            message = InstanceMessage(op="disabled", agent_id=agent_id)
            await instance_messages.send(conn, row["instance_id"], message)
        for lost in await commands.settle_unreported(conn, agent_id, []):
            await commands.notify_changed(conn, lost["id"])
            if CommandState(lost["state"]).is_final:
                await call.services.reports.write_lost(conn, lost, call.actor)
        await audit.write(conn, _of_agent(call, "agent.disabled", row))
    return row


async def enable_agent(call: Call[NoBody]) -> DictRow:
    agent_id = AgentId(call.id("agent_id"))
    async with call.services.pool.connection() as conn:
        row = found(await agents.enable(conn, agent_id), "agent")
        await commands.promote(conn, agent_id)
        await audit.write(conn, _of_agent(call, "agent.enabled", row))
    return row


class AgentName(Body, frozen=True, kw_only=True):
    """The name by which operators and schedules name an agent. On its own machine, the agent keeps the former name."""

    name: Name


async def rename_agent(call: Call[AgentName]) -> DictRow:
    """Schedules that name the agent follow."""
    agent_id, name = AgentId(call.id("agent_id")), call.body.name
    async with call.services.pool.connection() as conn:
        before = found(await agents.lock(conn, agent_id), "agent")
        try:
            async with conn.transaction():
                row = await agents.rename(conn, agent_id, name)
        except UniqueViolation:  # another agent has got the name at the same moment
            row = None
        if row is None:
            raise Problem(409, f"Another agent has the name {name}.")
        if before["name"] != name:
            await audit.write(conn, _of_agent(call, "agent.renamed", row, name=[before["name"], name]))
    return row


class DeletedAgent(Answer, frozen=True, kw_only=True):
    """The agent that was deleted."""

    id: UUID
    name: str


async def delete_agent(call: Call[NoBody]) -> DeletedAgent:
    """Delete an agent that is offline, with its queue, commands, conversations, requests, reports and recordings, and
    reject its tokens. The audit log and what its turns have cost are kept."""
    agent_id = AgentId(call.id("agent_id"))
    async with call.services.pool.connection() as conn:
        row = found(await agents.lock(conn, agent_id), "agent")
        if row["status"] == AgentStatus.ONLINE:
            raise Problem(409, "The agent is online. Stop or disable it, then delete it.")
        for settled in await commands.settle_unreported(conn, agent_id, []):
            await commands.notify_changed(conn, settled["id"])
        await agents.delete(conn, agent_id)
        await audit.write(conn, _of_agent(call, "agent.deleted", row))
    return DeletedAgent(id=agent_id, name=row["name"])


def _of_agent(call: Call[Any], action: str, row: DictRow, **detail: object) -> audit.Event:
    return audit.Event(
        actor=call.actor,
        action=action,
        target_kind="agent",
        target_id=str(row["id"]),
        detail={"name": row["name"], **detail},
    )


async def list_operators(call: Call[NoBody]) -> Operators:
    accounts = await _accounts(call)
    async with call.services.pool.connection() as conn:
        disabled = await operators.disabled(conn)
    return Operators(
        operators=[_answer(account, disabled=account.disabled or account.id in disabled) for account in accounts]
    )


async def disable_operator(call: Call[NoBody]) -> OperatorAnswer:
    """Disable the operator here first, then at the sign-in service."""
    account = await _account(call)
    if account.id == call.signed_in.id:
        raise Problem(409, "You cannot disable your own account. Ask another admin.")
    await _change(call, account, disabled=True)
    try:
        await call.services.directory.disable(account.email)
    except OperatorError as error:
        raise Problem(502, f"The operator is disabled here, but not at the sign-in service: {error}") from error
    return _answer(account, disabled=True)


async def enable_operator(call: Call[NoBody]) -> OperatorAnswer:
    """Enable the operator at the sign-in service first, then here."""
    account = await _account(call)
    try:
        await call.services.directory.enable(account.email)
    except OperatorError as error:
        raise Problem(502, f"The sign-in service could not enable the operator: {error}") from error
    await _change(call, account, disabled=False)
    return _answer(account, disabled=False)


async def _change(call: Call[NoBody], account: OperatorAccount, *, disabled: bool) -> None:
    async with call.services.pool.connection() as conn:
        if disabled:
            await operators.disable(conn, account.id, account.email, account.role or Role.VIEWER)
        else:
            await operators.enable(conn, account.id)
        await instance_messages.broadcast(conn, Broadcast(op="operator_changed", operator_id=account.id))
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="operator.disabled" if disabled else "operator.enabled",
                target_kind="operator",
                target_id=str(account.id),
                detail={"email": account.email},
            ),
        )


async def _accounts(call: Call[NoBody]) -> list[OperatorAccount]:
    try:
        return await call.services.directory.list()
    except OperatorError as error:
        raise Problem(502, f"The sign-in service failed: {error}") from error


async def _account(call: Call[NoBody]) -> OperatorAccount:
    wanted: UUID = call.id("operator_id")
    return found(next((account for account in await _accounts(call) if account.id == wanted), None), "operator")


def _answer(account: OperatorAccount, *, disabled: bool) -> OperatorAnswer:
    return OperatorAnswer(
        id=account.id,
        email=account.email,
        role=account.role,
        disabled=disabled,
        created_at=account.created_at,
        last_sign_in_at=account.last_sign_in_at,
    )


ENDPOINTS = [
    Endpoint(
        method="PUT",
        path="/v1/agents/{agent_id:uuid}/name",
        handler=rename_agent,
        summary="Rename an agent",
        answer=Agent,
        role=Role.ADMIN,
        body=AgentName,
        problems=(404, 409),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/agents/{agent_id:uuid}",
        handler=delete_agent,
        summary="Delete an agent that is offline",
        answer=DeletedAgent,
        role=Role.ADMIN,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/disable",
        handler=disable_agent,
        summary="Disable an agent, at once",
        answer=Agent,
        role=Role.ADMIN,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/enable",
        handler=enable_agent,
        summary="Enable a disabled agent",
        answer=Agent,
        role=Role.ADMIN,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/operators",
        handler=list_operators,
        summary="List operators, by email address",
        answer=Operators,
        role=Role.ADMIN,
        problems=(502,),
    ),
    Endpoint(
        method="POST",
        path="/v1/operators/{operator_id:uuid}/disable",
        handler=disable_operator,
        summary="Disable an operator, at once",
        answer=OperatorAnswer,
        role=Role.ADMIN,
        problems=(404, 409, 502),
    ),
    Endpoint(
        method="POST",
        path="/v1/operators/{operator_id:uuid}/enable",
        handler=enable_operator,
        summary="Enable a disabled operator",
        answer=OperatorAnswer,
        role=Role.ADMIN,
        problems=(404, 502),
    ),
]
