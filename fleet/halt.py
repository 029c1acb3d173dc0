"""The emergency stop: no command is dispatched, every command is cancelled, every instance is notified at once.

The first transaction waits for no other transaction: with its commit the halt is in force and on its way to the agents.
The second one cancels the commands that other transactions were changing, and the queued commands. If the process dies
between them, the recovery sweep does the work of the second one.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.fleet import instance_messages
from onsembl.fleet.commands import promote_idle_queues
from onsembl.fleet.instance_messages import Broadcast
from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import Halt, HaltProgress
from onsembl.sql import audit, halts
from onsembl.sql.database import Connection


async def begin_halt(conn: Connection, actor: audit.Actor, reason: str | None, seconds: float) -> tuple[DictRow, int]:
    """Halt the fleet, and commit; return the halt, and the number of queued commands that it cancelled. If a halt is
    already in force, that halt is sent again."""
    halt, new = await halts.begin(conn, actor, reason, seconds)
    await halts.cancel_active(conn, halt)
    await instance_messages.broadcast(conn, Broadcast(op="halt_changed"))
    if new:
        await audit.write(
            conn, _event(actor, "halt.begun", halt["id"], {"reason": halt["reason"], "seconds": halt["seconds"]})
        )
    await conn.commit()
    cancelled = await _enforce(conn, halt)
    await conn.commit()
    return halt, cancelled


async def enforce_halt(conn: Connection) -> None:
    """Cancel the commands that the halt in force, if there is one, has not cancelled yet."""
    halt = await halts.in_force(conn)
    if halt is not None:
        await _enforce(conn, halt)


async def _enforce(conn: Connection, halt: DictRow) -> int:
    cancelled = await halts.enforce(conn, halt)
    if cancelled:
        await audit.write(conn, _event(audit.SYSTEM, "halt.lines_cancelled", halt["id"], {"commands": cancelled}))
    return cancelled


async def lift_halt(conn: Connection, actor: audit.Actor) -> DictRow | None:
    """Lift the halt and commit; return the lifted halt, None when none was in force.

    Commands sent since the halt began are dispatched at once.
    """
    await enforce_halt(conn)
    halt = await halts.lift(conn, actor)
    if halt is None:
        return None
    await instance_messages.broadcast(conn, Broadcast(op="halt_changed"))
    await audit.write(conn, _event(actor, "halt.lifted", halt["id"], {}))
    await conn.commit()
    await promote_idle_queues(conn)
    return halt


async def record_progress(conn: Connection, agent_id: AgentId, report: HaltProgress, actor: audit.Actor) -> None:
    """Record an agent's progress with a halt. The audit log gets an event when the agent has stopped, or has processes
    that survive SIGKILL."""
    if await halts.progress(conn, agent_id, report) and report.state != "stopping":
        stopped = report.state == "stopped"
        await audit.write(
            conn,
            audit.Event(
                actor=actor,
                action="halt.agent_stopped" if stopped else "halt.agent_dying",
                target_kind="agent",
                target_id=str(agent_id),
                outcome="ok" if stopped else "failed",
                detail={"halt_id": str(report.halt_id), "pids": report.pids},
            ),
        )


async def halt_status(conn: Connection, halt: DictRow | None) -> dict[str, Any]:
    """A halt, and the progress of each agent."""
    return {"halt": halt, "agents": await halts.agents_of(conn, halt["id"]) if halt is not None else []}


def halt_message(halt: DictRow) -> Halt:
    """The message that announces a halt to agents."""
    return Halt(halt_id=halt["id"], number=halt["number"], seconds=halt["seconds"], reason=halt["reason"])


def _event(actor: audit.Actor, action: str, halt_id: UUID, detail: dict[str, object]) -> audit.Event:
    return audit.Event(actor=actor, action=action, target_kind="halt", target_id=str(halt_id), detail=detail)
