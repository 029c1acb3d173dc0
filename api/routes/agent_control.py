"""Controlling a whole agent: pause and resume it, cancel all its commands, restart or stop its program."""

from __future__ import annotations

from typing import Literal

from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Agent, Answer, NoBody
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.commands_models import CancelRequest
from onsembl.fleet import instance_messages, vendor_limits
from onsembl.fleet.cancel import request_cancel_all
from onsembl.fleet.instance_messages import InstanceMessage
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import AgentStatus, Role
from onsembl.sql import agents, audit, commands
from onsembl.sql.database import Connection


class CancelledAll(Answer, frozen=True, kw_only=True):
    """How many waiting commands were cancelled at once, and whether one that runs is being stopped."""

    waiting: int
    running: bool


async def pause_agent(call: Call[NoBody]) -> DictRow:
    """The running command continues; no new command starts."""
    async with call.services.pool.connection() as conn:
        before = await _agent(conn, call)
        row = await agents.pause(conn, AgentId(before["id"]), call.signed_in.email)
        if before["paused_at"] is None:
            await audit.write(conn, _event(call, "agent.paused", row))
    return row


async def resume_agent(call: Call[NoBody]) -> DictRow:
    """The agent gets the next command of its queue."""
    async with call.services.pool.connection() as conn:
        before = await _agent(conn, call)
        row = await agents.resume(conn, AgentId(before["id"]))
        if before["paused_at"] is not None:
            await audit.write(conn, _event(call, "agent.resumed", row))
        await commands.promote(conn, AgentId(row["id"]))
    return row


async def lift_vendor_limit(call: Call[NoBody]) -> DictRow:
    """An agent that waits for its vendor's limit gets the next command of its queue."""
    async with call.services.pool.connection() as conn:
        before = await _agent(conn, call)
        agent_id = AgentId(before["id"])
        await vendor_limits.go_on(conn, before, call.actor)
        promoted = await commands.promote(conn, agent_id)
        row = found(await agents.get(conn, agent_id), "agent")
    if promoted is not None:
        await call.services.hub.dispatch(promoted)
    return row


async def cancel_agent_commands(call: Call[CancelRequest]) -> CancelledAll:
    """Cancel the queued commands at once, and stop the running command by an escalation."""
    async with call.services.pool.connection() as conn:
        row = await _agent(conn, call)
        waiting, running = await request_cancel_all(conn, AgentId(row["id"]), call.actor, call.body.reason)
        detail: dict[str, object] = {"waiting": waiting, "running": running, "reason": call.body.reason}
        await audit.write(conn, _event(call, "agent.all_cancelled", row, **detail))
    call.services.metrics.cancelled_in_queue(waiting)
    if running:
        await call.services.hub.sync_agent(AgentId(row["id"]))
    return CancelledAll(waiting=waiting, running=running)


async def restart_agent(call: Call[NoBody]) -> DictRow:
    """Restart an agent's program, which first stops its running command with short timeouts."""
    return await _leave(call, "restart", "agent.restart_requested")


async def stop_agent(call: Call[NoBody]) -> DictRow:
    """As `restart_agent`; the program does not start again by itself."""
    return await _leave(call, "leave", "agent.stop_requested")


async def _leave(call: Call[NoBody], op: Literal["leave", "restart"], action: str) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = await _agent(conn, call)
        if row["status"] != AgentStatus.ONLINE or row["instance_id"] is None:
            raise Problem(409, "The agent is offline.")
        message = InstanceMessage(op=op, agent_id=row["id"])
        await instance_messages.send(conn, row["instance_id"], message)
        await audit.write(conn, _event(call, action, row))
    return row


async def _agent(conn: Connection, call: Call[NoBody] | Call[CancelRequest]) -> DictRow:
    row = found(await agents.lock(conn, AgentId(call.id("agent_id"))), "agent")
    del row["tokens_after"]
    return row


def _event(call: Call[NoBody] | Call[CancelRequest], action: str, row: DictRow, **detail: object) -> audit.Event:
    return audit.Event(
        actor=call.actor,
        action=action,
        target_kind="agent",
        target_id=str(row["id"]),
        detail={"name": row["name"], **detail},
    )


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/pause",
        handler=pause_agent,
        summary="Pause an agent: it gets no new commands",
        answer=Agent,
        role=Role.OPERATOR,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/resume",
        handler=resume_agent,
        summary="Resume a paused agent",
        answer=Agent,
        role=Role.OPERATOR,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/go-on",
        handler=lift_vendor_limit,
        summary="Let an agent go on that waits for its vendor's usage limit",
        answer=Agent,
        role=Role.OPERATOR,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/cancel-all",
        handler=cancel_agent_commands,
        summary="Cancel all commands of an agent",
        answer=CancelledAll,
        role=Role.OPERATOR,
        body=CancelRequest,
        status=202,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/restart",
        handler=restart_agent,
        summary="Restart an agent's program",
        answer=Agent,
        role=Role.OPERATOR,
        status=202,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/stop",
        handler=stop_agent,
        summary="Stop an agent's program",
        answer=Agent,
        role=Role.OPERATOR,
        status=202,
        problems=(404, 409),
    ),
]
