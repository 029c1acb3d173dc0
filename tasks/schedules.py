"""Schedules: what is due becomes ordinary commands, each time once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from procrastinate import JobContext
from psycopg.rows import DictRow

from onsembl.fleet.command_text import WordingError, word
from onsembl.fleet.commands import NoTargetError, aimed_at, move_lines, request_command, request_group
from onsembl.fleet.recurrence import RecurrenceError, next_times
from onsembl.protocol import request_ids
from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.protocol.limits import CommandLimits
from onsembl.sql import audit, operators, schedules
from onsembl.sql.database import Connection, Pool
from onsembl.tasks.run_command import services_of

logger = logging.getLogger(__name__)


class NoAuthorError(PermissionError):
    """Who last changed the schedule may send commands no longer."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}, in whose name it comes, may not send commands any more.")


@dataclass(slots=True)
class _Firing:
    """What came of one: the command or the group, or why there is none; whom it passed over; whose lines to move."""

    made: dict[str, UUID] = field(default_factory=dict[str, UUID])
    error: str | None = None
    skipped: list[str] = field(default_factory=list[str])
    waiting: list[AgentId] = field(default_factory=list[AgentId])


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
                again = schedule["cron"] is not None
                waiting = await _fire(conn, schedule, schedule["next_at"], _system(schedule), again=again)
            await schedules.advance(conn, schedule["id"], _after(schedule))
        await move_lines(pool, waiting)
        fired += 1


async def fire_now(conn: Connection, schedule_id: UUID, actor: audit.Actor) -> list[AgentId] | None:
    """Fire it because somebody says so, besides the times when it is due: whose lines are to be moved when it is
    committed; None when there is no such schedule."""
    schedule = await schedules.lock(conn, schedule_id)
    if schedule is None:
        return None
    return await _fire(conn, schedule, schedule["now"], actor, again=False)


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


async def _fire(
    conn: Connection, schedule: DictRow, due_at: datetime, actor: audit.Actor, *, again: bool
) -> list[AgentId]:
    """Make what is due; the agents whose lines are to be moved when it is committed. The caller holds the schedule.

    One that comes `again` passes over an agent in whose line the command of an earlier time still waits.
    """
    if not await schedules.begin_run(conn, schedule["id"], due_at):
        return []
    firing = _Firing()
    try:
        await _make(conn, schedule, firing, again=again)
    except (NoAuthorError, NoTargetError, WordingError) as problem:
        firing.error = str(problem)
    await schedules.end_run(conn, schedule["id"], due_at, **firing.made, error=firing.error, skipped=firing.skipped)
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="schedule.fired" if firing.made or firing.error is not None else "schedule.skipped",
            target_kind="schedule",
            target_id=str(schedule["id"]),
            outcome="ok" if firing.error is None else "failed",
            detail={
                "name": schedule["name"],
                "due_at": due_at.isoformat(),
                **{name: str(value) for name, value in firing.made.items()},
                **({"error": firing.error} if firing.error is not None else {}),
                **({"skipped": firing.skipped} if firing.skipped else {}),
            },
        ),
    )
    logger.info("A schedule has fired", extra={"action": "schedule_fired", "schedule_id": str(schedule["id"])})
    return firing.waiting


async def _make(conn: Connection, schedule: DictRow, firing: _Firing, *, again: bool) -> None:
    """Raises NoAuthorError, NoTargetError, WordingError."""
    if not await operators.may_command(conn, OperatorId(schedule["updated_by"])):
        raise NoAuthorError(schedule["updated_by_name"])
    asking = audit.Actor("system", schedule["updated_by"], f"schedule {schedule['name']}")
    rows = await aimed_at(conn, schedule["target"])
    is_group = len(rows) > 1 or "agents" not in schedule["target"]
    if again:
        held_up = await schedules.waits_at(conn, schedule["id"], [AgentId(row["id"]) for row in rows])
        firing.skipped = [row["name"] for row in rows if row["id"] in held_up]
        rows = [row for row in rows if row["id"] not in held_up]
        if not rows:
            return
    wording = {name: schedule[name] for name in ("text", "preset", "values", "priority")}
    limits = msgspec.convert(schedule["limits"], CommandLimits)
    said = await word(conn, **wording, limits=limits, kinds=[row["kind"] for row in rows])
    if is_group:
        firing.waiting = [AgentId(row["id"]) for row in rows]
        group = await request_group(conn, firing.waiting, said, schedule["target"], asking)
        firing.made["group_id"] = group["id"]
    else:
        row = await request_command(conn, AgentId(rows[0]["id"]), said, asking)
        if row is None:
            raise NoTargetError(f"The agent {rows[0]['name']} is disabled.")
        firing.made["command_id"] = row["id"]


def _system(schedule: DictRow) -> audit.Actor:
    return audit.Actor("system", name=f"schedule {schedule['name']}")
