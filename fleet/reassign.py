"""Sending a queued command to another agent, for example because its own waits for its vendor's limit."""

from __future__ import annotations

from typing import Any, cast

from msgspec import convert
from psycopg.rows import DictRow

from onsembl.fleet.cancel import request_cancel
from onsembl.fleet.commands import RenderedCommand, SendError, send_rendered
from onsembl.protocol.attachments import Attachment
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.permissions import is_laxer
from onsembl.protocol.states import AgentKind, CommandState
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.sql import agents, audit, commands, vendor_limits
from onsembl.sql.database import Connection


class ReassignError(SendError):
    """The command cannot be sent to that agent."""


async def reassign(conn: Connection, command: DictRow, agent_id: AgentId, actor: audit.Actor) -> DictRow:
    """Cancel a queued command and send it to another agent, in the caller's transaction; return the new command's row.

    A prompt begins a new conversation there, for the old one is on the other machine. It has its priority, limits,
    rules and files, and goes no further than that agent may. The model stays if both agents run the same CLI. Raises
    SendError.
    """
    for each in sorted({AgentId(command["agent_id"]), agent_id}):  # in one order, so that nobody waits for each other
        await agents.lock(conn, each)
    owner, target = await agents.get(conn, AgentId(command["agent_id"])), await agents.get(conn, agent_id)
    if target is None or owner is None:
        raise ReassignError("Agent not found.")
    if target["id"] == owner["id"]:
        raise ReassignError(f"The command is in the queue of {target['name']} already.")
    if AgentKind(owner["kind"]).converses != AgentKind(target["kind"]).converses:
        raise ReassignError(f"The agent {target['name']} is of the kind {target['kind']}, not {owner['kind']}.")
    current = await commands.get(conn, CommandId(command["id"]))
    if current is None or current["state"] != CommandState.QUEUED or current["steer_state"] in ("waiting", "given"):
        raise ReassignError("Only a command that waits in the queue can be sent to another agent.")
    made = await send_rendered(conn, _rendered(current, owner, target), target, actor)
    if made is None:
        raise ReassignError(f"The agent {target['name']} takes no command.")
    if current["turn"] and current["turn"].get("attachments"):
        await vendor_limits.copy_attachments(conn, CommandId(current["id"]), CommandId(made["id"]))
    if await request_cancel(conn, CommandId(current["id"]), actor, f"Sent to {target['name']} instead.") is None:
        raise ReassignError("The command is no longer queued.")
    detail = {"from": owner["name"], "to": target["name"], "command": str(made["id"])}
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="command.reassigned",
            target_kind="command",
            target_id=str(current["id"]),
            detail=detail,
        ),
    )
    return made


def _rendered(command: DictRow, owner: DictRow, target: DictRow) -> RenderedCommand:
    turn = cast("dict[str, Any]", command["turn"] or {})
    kept = ["effort", "rules", "report", "attachments", *(["model"] if owner["kind"] == target["kind"] else [])]
    settings: dict[str, object] = {name: turn[name] for name in kept if name in turn}
    mode = turn.get("permission_mode")
    if mode is not None and not is_laxer(mode, target["permission_mode"]):
        settings["permission_mode"] = mode
    return RenderedCommand(
        text=command["text"],
        priority=command["priority"],
        preset=command["preset"],
        limits=convert(command["limits"], CommandLimits),
        conversation="new",
        turn_settings=settings,
        rules=convert(turn["rules"], ToolRules) if "rules" in turn else NO_RULES,
        attachments=convert(turn.get("attachments", []), list[Attachment]),
    )
