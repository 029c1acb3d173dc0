"""The emergency stop: begin it, read its progress, lift it."""

from __future__ import annotations

from uuid import UUID

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, Body, NoBody, Time
from onsembl.api.http.problems import Problem
from onsembl.fleet import halt as fleet_halt
from onsembl.protocol.messages import Reason
from onsembl.protocol.states import HaltState, Role
from onsembl.sql import halts


class NewHalt(Body, frozen=True, kw_only=True):
    """An emergency stop, with an optional reason."""

    reason: Reason | None = None


class HaltedAgent(Answer, frozen=True, kw_only=True):
    """The progress of a halt at one agent: a row of `onsembl.halt_agents`, with the agent's name.

    `stopped`: the agent has proven that no process of any command is left. `not_reached`: the agent is offline; it is
    stopped when it reconnects. `dying`: the processes `pids` survive SIGKILL, which is repeated until they are gone.
    """

    id: UUID
    halt_id: UUID
    agent_id: UUID
    name: str
    state: HaltState
    step: str | None
    processes_left: int
    pids: list[int]
    at: Time


class HaltAnswer(Answer, frozen=True, kw_only=True):
    """An emergency stop, in force until it is lifted. Agents have `seconds` for their whole escalation."""

    id: UUID
    number: int
    at: Time
    requested_by: UUID | None
    requested_by_name: str
    reason: str | None
    seconds: float
    lifted_at: Time | None
    lifted_by: UUID | None
    lifted_by_name: str | None


class HaltStatus(Answer, frozen=True, kw_only=True):
    """The halt in force, or null; and the progress at every agent, by name."""

    halt: HaltAnswer | None
    agents: list[HaltedAgent]


async def begin_halt(call: Call[NewHalt]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        seconds = call.services.settings.halt_seconds
        halt, cancelled = await fleet_halt.begin_halt(conn, call.actor, call.body.reason, seconds)
        call.services.metrics.cancelled_in_queue(cancelled)
        # This instance need not wait to hear of it.
        await call.services.hub.sync_halt_with_all(call.services.background_tasks.start)
        return await fleet_halt.halt_status(conn, halt)


async def read_halt(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        return await fleet_halt.halt_status(conn, await halts.in_force(conn))


async def lift_halt(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        halt = await fleet_halt.lift_halt(conn, call.actor)
        if halt is None:
            raise Problem(409, "The fleet is not halted.")
        return await fleet_halt.halt_status(conn, halt)


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/halt",
        handler=begin_halt,
        summary="Begin an emergency stop: cancel every command of every agent",
        answer=HaltStatus,
        role=Role.OPERATOR,
        body=NewHalt,
        status=202,
    ),
    Endpoint(
        method="GET",
        path="/v1/halt",
        handler=read_halt,
        summary="Read the progress of the emergency stop",
        answer=HaltStatus,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/halt",
        handler=lift_halt,
        summary="Lift the emergency stop",
        answer=HaltStatus,
        role=Role.ADMIN,
        problems=(409,),
    ),
]
