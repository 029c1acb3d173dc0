"""Schedules: create, update, pause, resume, run and delete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec import to_builtins
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.idempotency import Once
from onsembl.api.http.models import NoBody
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.schedules_models import (
    ChangedSchedule,
    NewSchedule,
    NextTimes,
    RunsQuery,
    ScheduleAnswer,
    ScheduleRuns,
    Schedules,
    TimesQuery,
)
from onsembl.fleet.commands import check_turn, find_targets, promote_queues, render_content
from onsembl.fleet.recurrence import RecurrenceError, next_times
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import audit, schedules
from onsembl.sql.database import Connection
from onsembl.tasks.schedules import fire_now, first_time

TIMES_SHOWN = 5
GIVEN = (
    *("name", "target", "text", "preset", "values", "priority", "limits", "conversation", "model", "effort"),
    *("permission_mode", "rules"),
    *("cron", "time_zone", "at"),
)
"""The columns of a schedule that an operator sets."""


async def list_schedules(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        return {"schedules": await schedules.list_schedules(conn)}


async def read_schedule(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        return await _shown(conn, call.id("schedule_id"))


async def list_schedule_runs(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(RunsQuery)
    async with call.services.pool.connection() as conn:
        schedule_id = (await _shown(conn, call.id("schedule_id")))["id"]
        return {"runs": await schedules.runs(conn, schedule_id, query.limit)}


async def preview_schedule_times(call: Call[NoBody]) -> NextTimes:
    query = call.query(TimesQuery)
    try:
        return NextTimes(times=next_times(query.cron, query.time_zone, datetime.now(UTC), TIMES_SHOWN), problem=None)
    except RecurrenceError as error:
        return NextTimes(times=[], problem=str(error))


async def create_schedule(call: Call[NewSchedule]) -> DictRow:
    """The schedule is rejected if its command could not be sent now."""
    once = Once(call)
    async with call.services.pool.connection() as conn:
        made = await once.made_before(conn)
        if made is not None:
            return await _shown(conn, made)
        content, next_at = await _content(conn, call.body)
        by = call.signed_in
        made = await schedules.insert(conn, content, next_at, by.id, by.email)
        if made is None:
            raise _taken()
        await once.makes(conn, made)
        row = await _shown(conn, made)
        await audit.write(conn, _event(call, "schedule.created", row, _said(row)))
        return row


async def update_schedule(call: Call[ChangedSchedule]) -> DictRow:
    """A paused schedule stays paused."""
    schedule_id, by = call.id("schedule_id"), call.signed_in
    async with call.services.pool.connection() as conn:
        before = await _locked(conn, schedule_id)
        if call.body.revision is not None and call.body.revision != before["revision"]:
            raise Problem(409, "The schedule was changed in the meantime. Read it again.", revision=before["revision"])
        content, next_at = await _content(conn, call.body)
        if await schedules.name_is_taken(conn, content["name"], schedule_id):
            raise _taken()
        paused = before["paused_at"] is not None
        await schedules.update(conn, schedule_id, content, None if paused else next_at, by.id, by.email)
        row = await _shown(conn, schedule_id)
        was, now = _said(before), _said(row)
        detail = {name: [was[name], now[name]] for name in now if was[name] != now[name]}
        await audit.write(conn, _event(call, "schedule.changed", row, detail))
        return row


async def pause_schedule(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = await _locked(conn, call.id("schedule_id"))
        if row["paused_at"] is None:
            await schedules.pause(conn, row["id"], call.signed_in.email)
            await audit.write(conn, _event(call, "schedule.paused", row, {"name": row["name"]}))
        return await _shown(conn, row["id"])


async def resume_schedule(call: Call[NoBody]) -> DictRow:
    """Times that were due during the pause are not caught up."""
    async with call.services.pool.connection() as conn:
        row = await _locked(conn, call.id("schedule_id"))
        if row["paused_at"] is not None:
            await schedules.resume(conn, row["id"], _first_time(row, row["now"]))
            await audit.write(conn, _event(call, "schedule.resumed", row, {"name": row["name"]}))
        return await _shown(conn, row["id"])


async def run_schedule(call: Call[NoBody]) -> DictRow:
    """Send the command now, besides the times when the schedule is due."""
    schedule_id = call.id("schedule_id")
    once = Once(call)
    async with call.services.pool.connection() as conn:
        agent_ids: Sequence[AgentId] = ()
        if await once.made_before(conn) is None:
            agent_ids = found(await fire_now(conn, schedule_id, call.actor), "schedule")
            await once.makes(conn, schedule_id)
    await promote_queues(call.services.pool, agent_ids)
    async with call.services.pool.connection() as conn:
        return await _shown(conn, schedule_id)


async def delete_schedule(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        held = await _locked(conn, call.id("schedule_id"))
        row = await _shown(conn, held["id"])
        await schedules.delete(conn, row["id"])
        await audit.write(conn, _event(call, "schedule.deleted", row, _said(row)))
        return row


async def _content(conn: Connection, body: NewSchedule) -> tuple[dict[str, Any], datetime]:
    """The columns of the schedule, and its first time. Raises Problem, or SendError if its command cannot be sent."""
    body.check()
    content: dict[str, Any] = {name: getattr(body, name) for name in GIVEN}
    content["target"] = to_builtins(body.target)
    content["limits"] = to_builtins(body.limits)
    content["rules"] = to_builtins(body.rules)
    rows = await find_targets(conn, content["target"])
    check_turn(await render_content(conn, body, [row["kind"] for row in rows]), rows)
    next_at = _first_time(content, datetime.now(UTC))
    if next_at is None:
        raise Problem(422, "That time is in the past.")
    return content, next_at


def _first_time(content: Mapping[str, Any], now: datetime) -> datetime | None:
    try:
        return first_time(content, now)
    except RecurrenceError as error:
        raise Problem(422, str(error)) from error


async def _locked(conn: Connection, schedule_id: UUID) -> DictRow:
    return found(await schedules.lock(conn, schedule_id), "schedule")


async def _shown(conn: Connection, schedule_id: UUID) -> DictRow:
    return found(next(iter(await schedules.list_schedules(conn, schedule_id)), None), "schedule")


def _taken() -> Problem:
    return Problem(409, "A schedule of that name already exists.")


def _said(row: DictRow) -> dict[str, Any]:
    return {name: row[name].isoformat() if isinstance(row[name], datetime) else row[name] for name in GIVEN}


def _event(call: Call[Any], action: str, row: DictRow, detail: Mapping[str, object]) -> audit.Event:
    return audit.Event(actor=call.actor, action=action, target_kind="schedule", target_id=str(row["id"]), detail=detail)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/schedules",
        handler=list_schedules,
        summary="List schedules, by name",
        answer=Schedules,
    ),
    Endpoint(
        method="POST",
        path="/v1/schedules",
        handler=create_schedule,
        summary="Create a schedule: a command that is sent once or repeatedly",
        answer=ScheduleAnswer,
        role=Role.OPERATOR,
        body=NewSchedule,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/schedules/times",
        handler=preview_schedule_times,
        summary="Preview the next times of a cron expression",
        answer=NextTimes,
        query=TimesQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/schedules/{schedule_id:uuid}",
        handler=read_schedule,
        summary="Read a schedule",
        answer=ScheduleAnswer,
        problems=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/schedules/{schedule_id:uuid}",
        handler=update_schedule,
        summary="Update a schedule",
        answer=ScheduleAnswer,
        role=Role.OPERATOR,
        body=ChangedSchedule,
        problems=(404, 409),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/schedules/{schedule_id:uuid}",
        handler=delete_schedule,
        summary="Delete a schedule; the commands that it sent stay",
        answer=ScheduleAnswer,
        role=Role.OPERATOR,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/schedules/{schedule_id:uuid}/runs",
        handler=list_schedule_runs,
        summary="List the latest firings of a schedule",
        answer=ScheduleRuns,
        query=RunsQuery,
        problems=(404,),
    ),
    *(
        Endpoint(
            method="POST",
            path=f"/v1/schedules/{{schedule_id:uuid}}/{verb}",
            handler=handler,
            summary=summary,
            answer=ScheduleAnswer,
            role=Role.OPERATOR,
            problems=(404,),
        )
        for verb, handler, summary in (
            ("pause", pause_schedule, "Pause a schedule"),
            ("resume", resume_schedule, "Resume a paused schedule"),
            ("run", run_schedule, "Send a schedule's command now"),
        )
    ),
]
