"""Schedules: a schedule that is due sends an ordinary command, once for each time."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from procrastinate import JobContext
from psycopg.rows import DictRow

from onsembl.fleet.commands import CommandContent, SendError, Sent, promote_queues, send
from onsembl.fleet.recurrence import next_times
from onsembl.protocol import request_ids
from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.sql import audit, operators, schedules
from onsembl.sql.database import DATABASE_ERRORS, LASTING_ERRORS, Connection, Pool
from onsembl.tasks.context import services_of

logger = logging.getLogger(__name__)

CONTENT = ("text", "preset", "values", "priority", "conversation", "model", "effort", "permission_mode", "rules")
"""The columns of a schedule that are fields of the command that it sends."""


async def fire_schedules(context: JobContext, timestamp: int) -> None:
    """The job of every minute: run the schedules that are due."""
    await fire_due(services_of(context).pool)


async def fire_due(pool: Pool) -> int:
    """Run every schedule that is due, each in its own transaction; return the number of these schedules.

    Several processes may run this at once. Times missed during downtime are caught up by one run, for the first missed
    time.
    """
    fired = 0
    while True:
        async with pool.connection() as conn:
            schedule = await schedules.take_due(conn)
            if schedule is None:
                return fired
            with request_ids.in_force(request_ids.new()):  # no request starts this run, so it gets an id of its own
                actor = audit.Actor("system", name=f"schedule {schedule['name']}")
                repeats = schedule["cron"] is not None
                agent_ids = await _fire(conn, schedule, schedule["next_at"], actor, skip_waiting=repeats)
            await schedules.advance(conn, schedule["id"], _next_time(schedule))
        await promote_queues(pool, agent_ids)
        fired += 1


async def fire_now(conn: Connection, schedule_id: UUID, actor: audit.Actor) -> Sequence[AgentId] | None:
    """Run a schedule now, besides its scheduled times; return the agents whose queues are to be promoted after the
    commit, None when the schedule does not exist."""
    schedule = await schedules.lock(conn, schedule_id)
    if schedule is None:
        return None
    return await _fire(conn, schedule, schedule["now"], actor, skip_waiting=False)


def first_time(content: Mapping[str, Any], now: datetime) -> datetime | None:
    """The next time of a schedule; None when its only time has passed. Raises RecurrenceError."""
    if content["cron"] is not None:
        return next_times(content["cron"], content["time_zone"], now)[0]
    return content["at"] if content["at"] > now else None


def _next_time(schedule: DictRow) -> datetime | None:
    """The next time after now; None also when the recurrence is no longer valid, for example without its time zone."""
    try:
        return first_time(schedule, schedule["now"])
    except Exception:
        logger.exception("A schedule has no next time", extra={"action": "schedule_ended"})
        return None


async def _fire(
    conn: Connection, schedule: DictRow, due_at: datetime, actor: audit.Actor, *, skip_waiting: bool
) -> Sequence[AgentId]:
    """Send the command of a schedule whose row the caller has locked; return the agents whose queues are to be promoted
    after the commit.

    With `skip_waiting`, agents in whose queue an earlier command of the schedule waits are skipped.
    """
    if not await schedules.begin_run(conn, schedule["id"], due_at):
        return []
    sent, error = Sent(), None
    try:
        async with conn.transaction():
            sent = await _send(conn, schedule, skip_waiting=skip_waiting)
    except SendError as problem:
        error = str(problem)
    except Exception as fault:
        # Without a run this schedule would stay the first that is due, and no other would ever run.
        if isinstance(fault, DATABASE_ERRORS) and not isinstance(fault, LASTING_ERRORS):
            raise
        logger.exception(
            "A schedule cannot run", extra={"action": "schedule_failed", "schedule_id": str(schedule["id"])}
        )
        error = f"Internal error: {type(fault).__name__}."
    written: dict[str, UUID] = {}
    if sent.command is not None:
        written["command_id"] = sent.command["id"]
    if sent.group is not None:
        written["group_id"] = sent.group["id"]
    await schedules.end_run(conn, schedule["id"], due_at, **written, error=error, skipped=sent.skipped)
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="schedule.fired" if written or error is not None else "schedule.skipped",
            target_kind="schedule",
            target_id=str(schedule["id"]),
            outcome="ok" if error is None else "failed",
            detail={
                "name": schedule["name"],
                "due_at": due_at.isoformat(),
                **{name: str(value) for name, value in written.items()},
                **({"error": error} if error is not None else {}),
                **({"skipped": sent.skipped} if sent.skipped else {}),
            },
        ),
    )
    logger.info("A schedule has run", extra={"action": "schedule_fired", "schedule_id": str(schedule["id"])})
    return sent.agent_ids


async def _send(conn: Connection, schedule: DictRow, *, skip_waiting: bool) -> Sent:
    """Send the schedule's command. Raises SendError."""
    if not await operators.may_command(conn, OperatorId(schedule["updated_by"])):
        raise SendError(f"{schedule['updated_by_name']}, who last changed the schedule, may no longer send commands.")
    given = {name: schedule[name] for name in CommandContent.__struct_fields__}
    try:
        content = msgspec.convert(given, CommandContent)
        target = msgspec.convert(schedule["target"], dict[str, bool | list[str] | None])
    except msgspec.ValidationError as error:  # other schedules are fired all the same
        raise SendError(f"The schedule cannot be read: {error}.") from error

    async def still_queued(agent_ids: Collection[AgentId]) -> set[AgentId]:
        return await schedules.still_queued(conn, schedule["id"], agent_ids)

    return await send(
        conn,
        content,
        target,
        audit.Actor("system", schedule["updated_by"], f"schedule {schedule['name']}"),
        group_of_one=False,
        skip=still_queued if skip_waiting else None,
    )
