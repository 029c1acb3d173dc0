"""Cancelling a command: one transaction records the request on the command's row and aborts the command's job."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec
from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId, OperatorId
from onsembl.protocol.limits import CommandLimits, LimitName, describe
from onsembl.protocol.states import CommandState
from onsembl.sql import audit, command_groups, commands
from onsembl.sql.database import Connection, Pool

_cancelling = App(connector=PsycopgConnector())
"""Never opened: it uses the caller's connection."""


async def request_cancel(
    conn: Connection, command_id: CommandId, actor: audit.Actor, reason: str | None
) -> DictRow | None:
    """Cancel a command; None when the command is over or does not exist.

    A queued command is cancelled at once. An active command is interrupted by its job, which stays until the processes
    have exited.
    """
    assert actor.id is not None
    row = await commands.request_cancel(conn, command_id, OperatorId(actor.id), reason)
    if row is None:
        return None
    if row["state"] != CommandState.CANCELLED:
        await _abort_job(conn, row)
    await commands.notify_changed(conn, command_id)
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="command.cancel_requested",
            target_kind="command",
            target_id=str(command_id),
            detail={"reason": reason, "state": row["state"]},
        ),
    )
    return row


async def stop_overdue(conn: Connection, overdue: Mapping[CommandId, LimitName]) -> int:
    """Stop the commands that have exceeded these limits and still run; return their number."""
    stopped = 0
    for command_id, limit in overdue.items():
        found = await commands.get(conn, command_id)
        if found is None:
            continue
        reason = f"Past its limit: {describe(limit, msgspec.convert(found['limits'], CommandLimits))}."
        row = await commands.stop_at(conn, command_id, limit, reason)
        if row is None:
            continue
        await _abort_job(conn, row)
        await commands.notify_changed(conn, row["id"])
        await audit.write(
            conn,
            audit.Event(
                actor=audit.SYSTEM,
                action="command.limit_passed",
                target_kind="command",
                target_id=str(row["id"]),
                detail={"limit": limit, "limits": row["limits"]},
            ),
        )
        stopped += 1
    return stopped


async def request_cancel_all(
    conn: Connection, agent_id: AgentId, actor: audit.Actor, reason: str | None
) -> tuple[int, bool]:
    """Cancel every command of an agent whose row the caller has locked; return the number of queued commands, and
    whether one is being stopped."""
    waiting = await commands.cancel_queued(conn, agent_id, actor.id, reason)
    active = await commands.active(conn, [agent_id])
    for row in active:
        await request_cancel(conn, row["id"], actor, reason)
    return waiting, bool(active)


async def cancel_group(pool: Pool, group_id: UUID, actor: audit.Actor, reason: str | None) -> list[DictRow]:
    """Cancel every unfinished command of a group, each in its own transaction; return the rows that have changed."""
    cancelled: list[DictRow] = []
    async with pool.connection() as conn:
        async with conn.transaction():
            await audit.write(
                conn,
                audit.Event(
                    actor=actor,
                    action="group.cancel_requested",
                    target_kind="group",
                    target_id=str(group_id),
                    detail={"reason": reason},
                ),
            )
            unfinished = await command_groups.unfinished(conn, group_id)
        for command_id in unfinished:
            async with conn.transaction():
                row = await request_cancel(conn, command_id, actor, reason)
            if row is not None:
                cancelled.append(row)
    return cancelled


async def _abort_job(conn: Connection, row: DictRow) -> None:
    """Abort the job if it runs. A job that still waits needs no abort: it reads the cancel request on the command's
    row."""
    jobs = _cancelling.job_manager
    if row["job_id"] is None or await jobs.get_job_status_async(row["job_id"], connection=conn) is not Status.DOING:
        return
    await jobs.cancel_job_by_id_async(row["job_id"], abort=True, connection=conn)
