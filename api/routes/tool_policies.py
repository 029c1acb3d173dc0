"""Tools that an admin keeps for admins, or denies: for an agent, for the agents with a label, or for all."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, Body, NoBody, Query, Time
from onsembl.api.http.problems import Problem, found
from onsembl.protocol.field_types import Label
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.protocol.tool_rules import MAX_RULES, Rule
from onsembl.sql import agents, audit, tool_policies


class ToolPolicy(Answer, frozen=True, kw_only=True):
    """A policy for the tool calls that the `rule` fits. `admin`: only an admin answers a request for one. `deny`: such
    calls are denied. It is in force for an agent, for the agents with a `label`, or, without both, for all agents."""

    id: UUID
    seq: int
    verdict: Literal["admin", "deny"]
    rule: str
    agent_id: UUID | None
    label: str | None
    created_at: Time
    created_by_name: str


class ToolPolicies(Answer, frozen=True, kw_only=True):
    """Policies, oldest first."""

    policies: list[ToolPolicy]


class ToolPolicyQuery(Query, frozen=True, kw_only=True):
    """A filter: the policies in force for this agent."""

    agent_id: UUID | None = None


class NewToolPolicy(Body, frozen=True, kw_only=True):
    """A policy for an agent, for the agents with a label, or, without both, for all agents."""

    verdict: Literal["admin", "deny"]
    rule: Rule
    agent_id: UUID | None = None
    label: Label | None = None


async def list_policies(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(ToolPolicyQuery)
    agent_id = AgentId(query.agent_id) if query.agent_id is not None else None
    async with call.services.pool.connection() as conn:
        return {"policies": await tool_policies.page(conn, agent_id)}


async def create_policy(call: Call[NewToolPolicy]) -> DictRow:
    """It is in force for requests that are asked from now on, and for turns that begin."""
    body = call.body
    if body.agent_id is not None and body.label is not None:
        raise Problem(422, "A policy is for an agent or for a label, not for both.")
    agent_id = AgentId(body.agent_id) if body.agent_id is not None else None
    async with call.services.pool.connection() as conn:
        if agent_id is not None:
            found(await agents.get(conn, agent_id), "agent")
        row = await tool_policies.add(conn, body.verdict, body.rule, agent_id, body.label, call.actor.name)
        if row is None:
            raise Problem(409, f"There is such a policy, or there are {MAX_RULES} others.")
        await audit.write(conn, _event(call.actor, "tool_policy.created", row))
    return row


async def delete_policy(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = found(await tool_policies.delete(conn, call.id("policy_id")), "policy")
        await audit.write(conn, _event(call.actor, "tool_policy.deleted", row))
    return row


def _event(actor: audit.Actor, action: str, row: DictRow) -> audit.Event:
    detail: dict[str, object] = {name: row[name] for name in ("verdict", "rule", "label")}
    detail["agent_id"] = str(row["agent_id"]) if row["agent_id"] is not None else None
    return audit.Event(actor=actor, action=action, target_kind="tool_policy", target_id=str(row["id"]), detail=detail)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/tool-policies",
        handler=list_policies,
        summary="List the tools that are kept for admins or denied",
        answer=ToolPolicies,
        query=ToolPolicyQuery,
    ),
    Endpoint(
        method="POST",
        path="/v1/tool-policies",
        handler=create_policy,
        summary="Keep a tool for admins, or deny it",
        body=NewToolPolicy,
        answer=ToolPolicy,
        role=Role.ADMIN,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/tool-policies/{policy_id:uuid}",
        handler=delete_policy,
        summary="Delete a policy for a tool",
        answer=ToolPolicy,
        role=Role.ADMIN,
        problems=(404,),
    ),
]
