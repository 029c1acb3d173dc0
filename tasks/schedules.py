"""Schedules: what is due becomes ordinary commands, each time once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from procrastinate import JobContext
from psycopg.rows import DictRow

from onsembl.protocol import request_ids
from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.protocol.limits import Limits
from onsembl.sql import audit, operators, schedules
from onsembl.sql.database import Connection, Pool
from onsembl.tasks.recurrence import RecurrenceError, next_times
from onsembl.tasks.requesting import NoTargetError, aimed_at, move_lines, request_command, request_group
from onsembl.tasks.run_command import services_of
from onsembl.tasks.wording import WordingError, word

logger = logging.getLogger(__name__)


class NoAuthorError(PermissionError):
    """Who last changed the schedule may send commands no longer."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}, in whose name it comes, may not send commands any more.")


async def fire_schedules(context: JobContext, timestamp: int) -> None:
    """The job of every minute."""
    await fire_due(services_of(context).pool)


async def fire_due(pool: Pool) -> int:
    """Fire every schedule that is due, a transaction each; how many those were.

    Several may do it at once. What was missed while nobody did comes once, for the first time that was missed.
    """
    fired = 0
    while True:
        async with pool.connection() as conn:
            schedule = await schedules.take_due(conn)
            if schedule is None:
                return fired
            with request_ids.in_force(request_ids.new()):  # nobody asks, so each firing has one of its own
                waiting = await _fire(conn, schedule, schedule["next_at"], _system(schedule))
            await schedules.advance(conn, schedule["id"], _after(schedule))
        await move_lines(pool, waiting)
        fired += 1


async def fire_now(pool: Pool, schedule_id: UUID, actor: audit.Actor) -> bool:
    """Fire it because somebody says so, besides the times when it is due; whether there is such a schedule."""
    async with pool.connection() as conn:
        schedule = await schedules.lock(conn, schedule_id)
        if schedule is None:
            return False
        waiting = await _fire(conn, schedule, schedule["now"], actor)
    await move_lines(pool, waiting)
    return True


def first_time(content: Mapping[str, Any], now: datetime) -> datetime | None:
    """When a schedule comes next; None when its only time is over. Raises RecurrenceError."""
    if content["cron"] is not None:
        return next_times(content["cron"], content["time_zone"], now)[0]
    return content["at"] if content["at"] > now else None


def _after(schedule: DictRow) -> datetime | None:
    """When it comes after now. A rule that cannot be read any more (its time zone is gone) comes no more."""
    try:
        return first_time(schedule, schedule["now"])
    except RecurrenceError:
        logger.exception("A schedule has no next time", extra={"action": "schedule_ended"})
        return None


async def _fire(conn: Connection, schedule: DictRow, due_at: datetime, actor: audit.Actor) -> list[AgentId]:
    """Make what is due; the agents whose lines are to be moved when it is committed. The caller holds the schedule."""
    if not await schedules.begin_run(conn, schedule["id"], due_at):
        return []
    waiting: list[AgentId] = []
    made: dict[str, UUID] = {}
    error: str | None = None
    asking = audit.Actor("system", schedule["updated_by"], f"schedule {schedule['name']}")
    try:
        if not await operators.may_command(conn, OperatorId(schedule["updated_by"])):
            raise NoAuthorError(schedule["updated_by_name"])  # noqa: TRY301
        rows = await aimed_at(conn, schedule["target"])
        kinds = [row["kind"] for row in rows]
        wording = {name: schedule[name] for name in ("text", "preset", "values", "priority")}
        limits = msgspec.convert(schedule["limits"], Limits)
        said = await word(conn, **wording, limits=limits, kinds=kinds)
        if len(rows) == 1 and "agents" in schedule["target"]:
            agent_id = AgentId(rows[0]["id"])
            row = await request_command(conn, agent_id, said, asking)
            if row is None:
                raise NoTargetError(f"The agent {rows[0]['name']} is disabled.")  # noqa: TRY301
            made["command_id"] = row["id"]
        else:
            waiting = [AgentId(row["id"]) for row in rows]
            made["group_id"] = (await request_group(conn, waiting, said, schedule["target"], asking))["id"]
    except (NoAuthorError, NoTargetError, WordingError) as problem:
        error = str(problem)
    await schedules.end_run(conn, schedule["id"], due_at, **made, error=error)
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="schedule.fired",
            target_kind="schedule",
            target_id=str(schedule["id"]),
            outcome="ok" if error is None else "failed",
            detail={
                "name": schedule["name"],
                "due_at": due_at.isoformat(),
                **{name: str(value) for name, value in made.items()},
                **({"error": error} if error is not None else {}),
            },
        ),
    )
    logger.info("A schedule has fired", extra={"action": "schedule_fired", "schedule_id": str(schedule["id"])})
    return waiting


def _system(schedule: DictRow) -> audit.Actor:
    return audit.Actor("system", name=f"schedule {schedule['name']}")
