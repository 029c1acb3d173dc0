"""An agent's settings: the labels by which targets select it, the limits of its commands, and how far it may go."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Agent, Body
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.commands_models import AgentLabels
from onsembl.fleet.commands import ContentError, check_takes_rules
from onsembl.protocol.ids import AgentId
from onsembl.protocol.limits import RequestedLimits
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.states import Role
from onsembl.protocol.tool_rules import RequestedRules
from onsembl.sql import agents, audit


async def set_agent_labels(call: Call[AgentLabels]) -> DictRow:
    labels = list(dict.fromkeys(call.body.labels))
    async with call.services.pool.connection() as conn:
        row = found(await agents.set_labels(conn, AgentId(call.id("agent_id")), labels), "agent")
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="agent.labelled",
                target_kind="agent",
                target_id=str(row["id"]),
                detail={"name": row["name"], "labels": labels},
            ),
        )
    return row


async def set_agent_limits(call: Call[RequestedLimits]) -> DictRow:
    """The new limits apply to commands that start later."""
    async with call.services.pool.connection() as conn:
        row = found(await agents.set_limits(conn, AgentId(call.id("agent_id")), call.body), "agent")
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="agent.limited",
                target_kind="agent",
                target_id=str(row["id"]),
                detail={"name": row["name"], "limits": row["limits"]},
            ),
        )
    return row


class AgentPermissionMode(Body, frozen=True, kw_only=True):
    """How far the agent may go without asking a person: from the strictest, `plan`, over `ask`, `accept_edits` and
    `auto` to the laxest, `full`."""

    permission_mode: PermissionMode


async def set_agent_permission_mode(call: Call[AgentPermissionMode]) -> DictRow:
    """The new mode applies to queued commands, too; a running command continues."""
    mode = call.body.permission_mode
    async with call.services.pool.connection() as conn:
        before = found(await agents.get(conn, AgentId(call.id("agent_id"))), "agent")
        row = found(await agents.set_permission_mode(conn, AgentId(before["id"]), mode), "agent")
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="agent.permission_mode_set",
                target_kind="agent",
                target_id=str(row["id"]),
                detail={"name": row["name"], "permission_mode": [before["permission_mode"], mode]},
            ),
        )
    return row


class AgentRules(Body, frozen=True, kw_only=True):
    """Rules for all commands of the agent. What they allow needs no question; what they deny is denied in every
    permission mode."""

    rules: RequestedRules


async def set_agent_rules(call: Call[AgentRules]) -> DictRow:
    """The new rules apply to queued commands, too; a running command continues."""
    rules = call.body.rules
    async with call.services.pool.connection() as conn:
        before = found(await agents.get(conn, AgentId(call.id("agent_id"))), "agent")
        try:
            check_takes_rules(rules, before)
        except ContentError as error:
            raise Problem(409, str(error)) from error
        row = found(await agents.set_rules(conn, AgentId(before["id"]), rules), "agent")
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="agent.rules_set",
                target_kind="agent",
                target_id=str(row["id"]),
                detail={"name": row["name"], "rules": [before["rules"], row["rules"]]},
            ),
        )
    return row


ENDPOINTS = [
    Endpoint(
        method="PUT",
        path="/v1/agents/{agent_id:uuid}/rules",
        handler=set_agent_rules,
        summary="Set the rules that allow and deny tool calls of an agent",
        answer=Agent,
        role=Role.ADMIN,
        body=AgentRules,
        problems=(404, 409),
    ),
    Endpoint(
        method="PUT",
        path="/v1/agents/{agent_id:uuid}/permission-mode",
        handler=set_agent_permission_mode,
        summary="Set how far an agent may go without asking a person",
        answer=Agent,
        role=Role.ADMIN,
        body=AgentPermissionMode,
        problems=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/agents/{agent_id:uuid}/labels",
        handler=set_agent_labels,
        summary="Set all labels of an agent",
        answer=Agent,
        role=Role.OPERATOR,
        body=AgentLabels,
        problems=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/agents/{agent_id:uuid}/limits",
        handler=set_agent_limits,
        summary="Set the limits for an agent's commands; a limit that is not given is removed",
        answer=Agent,
        role=Role.ADMIN,
        body=RequestedLimits,
        problems=(404,),
    ),
]
