"""Commands as they are asked for: the row, its mark in the audit log and, if the agent is free, its job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId, OperatorId
from onsembl.sql import agents, audit, command_groups, commands
from onsembl.sql.database import Connection, Pool
from onsembl.tasks.cancel import request_cancel
from onsembl.tasks.line import promote


async def request_command(conn: Connection, agent_id: AgentId, text: str, priority: int, actor: audit.Actor) -> DictRow:
    """Put a command in an agent's line, whose row the caller holds; it becomes a job at once if the agent is free."""
    assert actor.id is not None
    row = await commands.insert(conn, agent_id, text, priority, OperatorId(actor.id), actor.name)
    await audit.write(conn, _requested(row, actor))
    promoted = await promote(conn, agent_id)
    return promoted if promoted is not None and promoted["id"] == row["id"] else row


async def request_group(
    conn: Connection,
    agent_ids: Sequence[AgentId],
    text: str,
    priority: int,
    target: Mapping[str, object],
    actor: audit.Actor,
) -> DictRow:
    """Put a command in the line of each agent: all of them or none; the group. `move_lines` is to follow."""
    group = await command_groups.insert(conn, text, priority, target, actor.id, actor.name)
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="group.requested",
            target_kind="group",
            target_id=str(group["id"]),
            detail={"target": dict(target), "agents": len(agent_ids), "priority": priority},
        ),
    )
    for row in await command_groups.add_commands(conn, group, agent_ids):
        await audit.write(conn, _requested(row, actor))
    return group


async def move_lines(pool: Pool, agent_ids: Sequence[AgentId]) -> None:
    """Promote the head of each of these lines, a transaction each; what is not reached the sweep finds."""
    async with pool.connection() as conn:
        for agent_id in agent_ids:
            async with conn.transaction():
                if await agents.lock(conn, agent_id) is not None:
                    await promote(conn, agent_id)


async def cancel_group(pool: Pool, group_id: UUID, actor: audit.Actor, reason: str | None) -> int:
    """Cancel what of a group is not over, a transaction each; how many those were."""
    cancelled = 0
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
            waiting = await command_groups.going_on(conn, group_id)
        for command_id in waiting:
            async with conn.transaction():
                cancelled += await request_cancel(conn, CommandId(command_id), actor, reason) is not None
    return cancelled


def _requested(row: DictRow, actor: audit.Actor) -> audit.Event:
    detail = {"agent_id": str(row["agent_id"]), "priority": row["priority"]}
    if row["group_id"] is not None:
        detail["group_id"] = str(row["group_id"])
    return audit.Event(
        actor=actor, action="command.requested", target_kind="command", target_id=str(row["id"]), detail=detail
    )
