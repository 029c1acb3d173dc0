"""What makes the death of a worker or of an API instance a delay and nothing more.

Every worker sweeps; an advisory lock lets one at a time do it, and each step changes nothing when there is nothing
to mend.
"""

from __future__ import annotations

import logging

from procrastinate import App
from procrastinate.exceptions import ProcrastinateException
from procrastinate.utils import utcnow

from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, audit, commands, instances, locks
from onsembl.sql.database import Pool
from onsembl.tasks.line import defer_job

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
DEAD_INSTANCE_SECONDS = 30.0


async def sweep(pool: Pool, worker_app: App, dead_worker_seconds: float) -> None:
    """Retry the jobs of dead workers, give a job to each command that lost its own, and mark the agents of dead
    instances offline."""
    for job in await worker_app.job_manager.get_stalled_jobs(seconds_since_heartbeat=dead_worker_seconds):
        try:
            await worker_app.job_manager.retry_job(job, retry_at=utcnow())
        except ProcrastinateException:
            # Another worker's sweep was quicker, or the job has just ended.
            logger.info("A stalled job moved on by itself", extra={"action": "stalled_job_gone", "job_id": job.id})
        else:
            logger.warning("Recovered a dead worker's job", extra={"action": "job_recovered", "job_id": job.id})
    async with pool.connection() as conn:
        if not await locks.try_take(conn, "recovery"):
            return
        for command in await commands.without_job(conn):
            await defer_job(conn, AgentId(command["agent_id"]), command["id"])
            logger.warning(
                "Gave a command a new job", extra={"action": "command_rejobbed", "command_id": str(command["id"])}
            )
        for agent in await agents.strand(conn, DEAD_INSTANCE_SECONDS):
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
