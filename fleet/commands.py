"""Commands as they are asked for: the row, its mark in the audit log and, if the agent is free, its job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import to_builtins
from psycopg.rows import DictRow

from onsembl.fleet.cancel import request_cancel
from onsembl.fleet.command_text import Said
from onsembl.fleet.line import promote
from onsembl.fleet.names import RUN_COMMAND
from onsembl.protocol import request_ids
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql import agents, audit, command_groups, commands
from onsembl.sql.database import Connection, Pool


class NoTargetError(LookupError):
    """No agent is meant, or one that is named is not there; the text says which."""


async def aimed_at(conn: Connection, target: Mapping[str, Any]) -> list[DictRow]:
    """The agents that are meant by `{"agents": […]}` (names or ids), `{"labels": […]}` or `{"all": true}`. Raises
    NoTargetError."""
    names, labels = target.get("agents"), target.get("labels")
    rows = await agents.aimed_at(conn, names=names, labels=labels)
    missing = set(names or ()) - {name for row in rows for name in (row["name"], str(row["id"]))}
    if missing:
        raise NoTargetError(f"There is no such agent, or it is disabled: {', '.join(sorted(missing))}.")
    if not rows:
        raise NoTargetError("No agent is meant by that.")
    return rows


async def request_command(conn: Connection, agent_id: AgentId, said: Said, actor: audit.Actor) -> DictRow | None:
    """Put a command in an agent's line, in one statement; it becomes a job at once if the agent is free. Its row; None,
    and nothing is changed, when there is no such agent or it is disabled."""
    return await commands.request(
        conn,
        agent_id,
        text=said.text,
        priority=said.priority,
        preset=said.preset,
        request_id=request_ids.current(),
        limits=said.limits,
        task=RUN_COMMAND,
        actor=actor,
        detail=_detail(agent_id, said.priority, said.preset, to_builtins(said.limits)),
    )


async def request_group(
    conn: Connection,
    agent_ids: Sequence[AgentId],
    said: Said,
    target: Mapping[str, object],
    actor: audit.Actor,
) -> DictRow:
    """Put a command in the line of each agent: all of them or none; the group. `move_lines` is to follow."""
    group = await command_groups.insert(
        conn, said.text, said.priority, target, actor.id, actor.name, said.preset, said.limits
    )
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="group.requested",
            target_kind="group",
            target_id=str(group["id"]),
            detail={"target": dict(target), "agents": len(agent_ids), "priority": said.priority, "preset": said.preset},
        ),
    )
    for row in await command_groups.add_commands(conn, group, agent_ids, request_ids.current()):
        await audit.write(conn, _requested(row, actor))
    return group


async def move_lines(pool: Pool, agent_ids: Sequence[AgentId]) -> None:
    """Promote the head of each of these lines, a transaction each; what is not reached the sweep finds."""
    async with pool.connection() as conn:
        for agent_id in agent_ids:
            async with conn.transaction():
                if await agents.lock(conn, agent_id) is not None:
                    await promote(conn, agent_id)


async def cancel_group(pool: Pool, group_id: UUID, actor: audit.Actor, reason: str | None) -> list[DictRow]:
    """Cancel what of a group is not over, a transaction each; the changed rows."""
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
            waiting = await command_groups.going_on(conn, group_id)
        for command_id in waiting:
            async with conn.transaction():
                row = await request_cancel(conn, CommandId(command_id), actor, reason)
            if row is not None:
                cancelled.append(row)
    return cancelled


def _requested(row: DictRow, actor: audit.Actor) -> audit.Event:
    detail = _detail(row["agent_id"], row["priority"], row["preset"], row["limits"])
    return audit.Event(
        actor=actor,
        action="command.requested",
        target_kind="command",
        target_id=str(row["id"]),
        detail=detail | {"group_id": str(row["group_id"])},
    )


def _detail(agent_id: UUID, priority: int, preset: str | None, limits: Mapping[str, object]) -> dict[str, object]:
    detail: dict[str, object] = {"agent_id": str(agent_id), "priority": priority}
    if preset is not None:
        detail["preset"] = preset
    if limits:
        detail["limits"] = limits
    return detail
