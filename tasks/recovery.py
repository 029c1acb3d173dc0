"""Recovers from the death of a worker or of an API instance, so that it only causes a delay.

Every worker sweeps. An advisory lock allows one sweep at a time, and each step changes nothing when nothing is broken.
"""

from __future__ import annotations

import logging

from onsembl.fleet.cancel import stop_overdue
from onsembl.fleet.commands import promote_idle_queues
from onsembl.fleet.halt import enforce_halt
from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, audit, commands, instances, jobs, locks
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
DEAD_INSTANCE_SECONDS = 30.0
LIMIT_GRACE_SECONDS = 30.0
"""How long an agent has to enforce a limit itself, in seconds, with the usual timeouts of its escalation."""


OVER = "The worker died, and the command was over."
"""The error of a job that is failed, because it is no longer needed."""


async def sweep(pool: Pool, dead_worker_seconds: float) -> None:
    """Retry the jobs of dead workers, give a new job to each command that lost its job, mark the agents of dead
    instances offline, finish an incomplete halt, stop commands that exceed their limits, and promote idle queues."""
    async with pool.connection() as conn:
        if not await locks.try_take(conn, "recovery"):
            return
        for job in await jobs.stalled(conn, dead_worker_seconds):
            if job["needed"]:
                await jobs.retry(conn, job["id"])
            else:  # another job of the agent may already wait
                await jobs.give_up(conn, job["id"])
                await jobs.store_error(conn, job["id"], OVER)
            logger.warning("Recovered a dead worker's job", extra={"action": "job_recovered", "job_id": job["id"]})
        for command in await commands.without_job(conn):
            await commands.defer(conn, AgentId(command["agent_id"]), command["id"])
            logger.warning(
                "Gave a command a new job", extra={"action": "command_rejobbed", "command_id": str(command["id"])}
            )
        for agent in await agents.mark_offline(conn, DEAD_INSTANCE_SECONDS):
            await audit.write(
                conn,
                audit.Event(
                    actor=audit.SYSTEM,
                    action="agent.stranded",
                    target_kind="agent",
                    target_id=str(agent["id"]),
                    detail={"name": agent["name"]},
                ),
            )
        await instances.remove_dead(conn, DEAD_INSTANCE_SECONDS)
        await conn.commit()
        await enforce_halt(conn)
        await conn.commit()
        if stopped := await stop_overdue(conn, LIMIT_GRACE_SECONDS):
            logger.warning(
                "Stopped commands that exceeded their limits", extra={"action": "limits_passed", "count": stopped}
            )
        await conn.commit()
        await promote_idle_queues(conn)
