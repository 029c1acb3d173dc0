"""Recovers from the death of a worker or of an API instance, so that it only causes a delay.

Every worker sweeps, and so does every API process without one. Each finds the dead by its own looks at their heartbeats
(`protocol/liveness.py`). An advisory lock allows one repair at a time, and each step changes nothing when nothing is
broken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from onsembl.fleet.cancel import stop_overdue
from onsembl.fleet.commands import promote_idle_queues
from onsembl.fleet.halt import enforce_halt
from onsembl.fleet.vendor_limits import lift_due
from onsembl.protocol.ids import AgentId, CommandId, InstanceId
from onsembl.protocol.limits import LimitName
from onsembl.protocol.liveness import Liveness
from onsembl.protocol.overdue import LimitObserver
from onsembl.sql import agents, audit, commands, instances, jobs, locks, stats
from onsembl.sql.database import DATABASE_ERRORS, Connection, Pool

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
LIMIT_GRACE_SECONDS = 30.0
"""How long an agent has to enforce a limit itself, in seconds, with the usual timeouts of its escalation."""


OVER = "The worker died, and the command was over."
"""The error of a job that is failed, because it is no longer needed."""


class Sweeper:
    """Looks at the heartbeats of workers and instances, and repairs what the dead have left. Times are in seconds, by
    `clock`, which never goes back."""

    def __init__(
        self, pool: Pool, dead_worker: float, dead_instance: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._workers = Liveness[int](dead_worker)
        self._instances = Liveness[InstanceId](dead_instance)
        self._limits = LimitObserver(LIMIT_GRACE_SECONDS, instances.GAP_SECONDS)
        self._repair_every = min(SWEEP_SECONDS, dead_worker)
        self._repaired: float | None = None
        self.interval = min(self._workers.interval, self._instances.interval, self._repair_every)
        """The seconds between two sweeps."""
        self.workers: frozenset[int] = frozenset()
        """The workers that have a row, at the last look."""

    async def try_sweep(self) -> bool:
        """Sweep; False when the database does not respond."""
        try:
            await self.sweep()
        except DATABASE_ERRORS as error:
            logger.warning("A sweep failed: %s", error, extra={"action": "sweep_failed"})
            return False
        return True

    async def sweep(self) -> None:
        """Look at the heartbeats and at the commands with limits. Repair if a process is dead, a command is overdue, or
        the last repair is some seconds ago."""
        began = self._clock()
        async with self._pool.connection() as conn:
            if await stats.read_only(conn):
                return  # nobody can write a heartbeat; the next look is late, and so begins anew
            workers, living = await jobs.worker_numbers(conn), await instances.numbers(conn)
            limited = await commands.limited(conn)
        ended = self._clock()
        self.workers = frozenset(workers)
        dead_workers = self._workers.look(began, ended, workers)
        dead_instances = self._instances.look(began, ended, living)
        overdue = self._limits.look(began, ended, limited)
        due = self._repaired is None or began - self._repaired >= self._repair_every
        if not (due or dead_workers or dead_instances or overdue):
            return
        if await self._repair(dead_workers, dead_instances, overdue):
            self._repaired = began

    async def _repair(
        self, dead_workers: dict[int, str], dead_instances: dict[InstanceId, str], overdue: dict[CommandId, LimitName]
    ) -> bool:
        """Retry the jobs of dead workers, give a new job to each command that lost its job, mark the agents of dead
        instances offline, finish an incomplete halt, stop overdue commands, end the waiting for limits of vendors that
        were reset, and promote idle queues. Return False when another worker does so."""
        async with self._pool.connection() as conn:
            if not await locks.try_take(conn, "recovery"):
                return False
            await _recover_jobs(conn, dead_workers)
            for command in await commands.without_job(conn):
                await commands.defer(conn, AgentId(command["agent_id"]), command["id"])
                logger.warning(
                    "Gave a command a new job", extra={"action": "command_rejobbed", "command_id": str(command["id"])}
                )
            await _mark_agents_offline(conn, dead_instances)
            await conn.commit()
            await enforce_halt(conn)
            await conn.commit()
            if stopped := await stop_overdue(conn, overdue):
                logger.warning(
                    "Stopped commands that exceeded their limits", extra={"action": "limits_passed", "count": stopped}
                )
            await conn.commit()
            await lift_due(conn)
            await conn.commit()
            await promote_idle_queues(conn)
        return True


async def _recover_jobs(conn: Connection, silent: dict[int, str]) -> None:
    dead = await jobs.lock_silent_workers(conn, silent)
    for job in await jobs.stalled(conn, dead):
        if job["needed"]:
            await jobs.retry(conn, job["id"])
        else:  # another job of the agent may already wait
            await jobs.give_up(conn, job["id"])
            await jobs.store_error(conn, job["id"], OVER)
        logger.warning("Recovered a dead worker's job", extra={"action": "job_recovered", "job_id": job["id"]})
    await jobs.remove_workers(conn, dead)
    await jobs.bring_forward(conn)


async def _mark_agents_offline(conn: Connection, silent: dict[InstanceId, str]) -> None:
    dead = await instances.lock_silent(conn, silent)
    for agent in await agents.mark_offline(conn, dead):
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
    for instance_id in dead:
        logger.warning(
            "An instance is dead: it has written no heartbeat",
            extra={"action": "instance_dead", "instance_id": str(instance_id)},
        )
        await instances.remove(conn, instance_id)
