"""Agents at a usage limit of their CLI's vendor: they wait for the reset, and go on by themselves or when told to."""

from __future__ import annotations

import logging

from psycopg.rows import DictRow

from onsembl.protocol.attention_notes import LimitBody
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import CommandState
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.vendor_limits import resume_at
from onsembl.sql import attention, audit, vendor_limits
from onsembl.sql.database import Connection

logger = logging.getLogger(__name__)

GO_ON = "Go on where the usage limit stopped you."
"""The prompt that continues a turn which had done something before it reached the limit."""


async def record(conn: Connection, command: DictRow, name: str, turn: TurnReport) -> None:
    """Record the windows of an agent's vendor, and the limit at which its turn has ended; `command` is the row of the
    turn and `name` the agent's. The caller has locked the agent's row, and promotes its queue next.

    A command that is to wait is sent again, first in the queue.
    """
    agent_id = AgentId(command["agent_id"])
    if turn.windows:
        await vendor_limits.set_windows(conn, agent_id, turn.windows)
    if turn.limit is None or command["state"] != CommandState.FAILED:
        return
    strikes, now = await vendor_limits.strikes(conn, agent_id)
    until = resume_at(now, turn.limit.resets_at, strikes)
    await vendor_limits.set_limited(conn, agent_id, until, turn.limit.model)
    told = turn.limit.resets_at.isoformat() if turn.limit.resets_at is not None else None
    detail: dict[str, object] = {"name": name, "until": until.isoformat(), "resets_at": told, "strikes": strikes + 1}
    if turn.limit.model is not None:
        detail["model"] = turn.limit.model
    await audit.write(conn, _event(audit.SYSTEM, "agent.usage_limit_reached", agent_id, detail))
    logger.warning(
        "An agent has reached a usage limit of its vendor",
        extra={"action": "usage_limit_reached", "agent_id": str(agent_id), "until": until.isoformat()},
    )
    await attention.note_limit(conn, command["id"], LimitBody(until=until, text=(command["error"] or "")[:4096]))
    if command["limits"].get("on_limit") != "fail":
        text = None if turn.limit.untouched else GO_ON
        await vendor_limits.continue_command(conn, CommandId(command["id"]), text)


async def go_on(conn: Connection, agent: DictRow, actor: audit.Actor) -> None:
    """End the waiting of an agent now. The caller has locked its row, and promotes its queue next."""
    if agent["limited_until"] is not None:
        await vendor_limits.lift(conn, AgentId(agent["id"]))
        detail = {"name": agent["name"], "until": agent["limited_until"].isoformat()}
        await audit.write(conn, _event(actor, "agent.usage_limit_over", agent["id"], detail))


async def lift_due(conn: Connection) -> None:
    """End the waiting of the agents whose time has come."""
    for agent in await vendor_limits.lift_due(conn):
        await audit.write(conn, _event(audit.SYSTEM, "agent.usage_limit_over", agent["id"], {"name": agent["name"]}))


def _event(actor: audit.Actor, action: str, agent_id: AgentId, detail: dict[str, object]) -> audit.Event:
    return audit.Event(actor=actor, action=action, target_kind="agent", target_id=str(agent_id), detail=detail)
