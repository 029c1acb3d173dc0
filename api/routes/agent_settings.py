"""An agent's settings: the labels by which targets select it, and the limits of its commands."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Agent
from onsembl.api.http.problems import found
from onsembl.api.routes.commands_models import AgentLabels
from onsembl.protocol.ids import AgentId
from onsembl.protocol.limits import RequestedLimits
from onsembl.protocol.states import Role
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


ENDPOINTS = [
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
