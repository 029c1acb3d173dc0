"""The event feed: giving positions to what has happened, and what an operator can do about an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast
from urllib.parse import quote

import psycopg

from onsembl.protocol.activity import AgentActivity, CurrentActivity, activity_of
from onsembl.protocol.attention_notes import NOTES
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import agent_facts, events
from onsembl.sql.database import Connection, Pool

BATCH = 1000
"""The most events that are given positions in one transaction."""


async def give_positions(pool: Pool) -> None:
    """Give a position to every event whose transaction has committed. On a read-only database they wait."""
    try:
        taken = BATCH
        while taken == BATCH:
            async with pool.connection() as conn:
                taken = await _give_positions(conn) if await events.outbox_waits(conn) else 0
    except psycopg.errors.ReadOnlySqlTransaction:
        return


async def _give_positions(conn: Connection) -> int:
    await events.lock(conn)
    taken, marks = await events.move(conn, BATCH)
    if not marks:
        return taken
    # The facts are read after the commits of the changes, under the lock of the feed. So the last event of an agent has
    # the activity that follows from all of them.
    marked = {row["agent_id"]: row["at"] for row in marks}
    facts = await agent_facts.of_agents(conn, None if None in marked else list(marked))
    before = await events.last_activities(conn, list(facts))
    changed: dict[AgentId, tuple[datetime, CurrentActivity]] = {}
    for agent_id, known in facts.items():
        activity = activity_of(known)
        if activity.name != before.get(agent_id, AgentActivity.OFFLINE):
            changed[agent_id] = max(marked[key] for key in (agent_id, None) if key in marked), activity
    await events.append_activities(conn, changed)
    return taken


@dataclass(frozen=True, slots=True)
class EventAction:
    """What can be done about an event: the `method` and `path` of a route, the name of its body's schema, if it has
    one, and the lowest role that may use it."""

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    body: str | None = None
    role: Role = Role.VIEWER


def page_for(event: Mapping[str, Any]) -> str:
    """The page about the event, as a path below the control center's URL: where a notification leads a person."""
    family = str(event["kind"]).partition(".")[0]
    match family:
        case "attention":
            return f"/#/inbox/{event['subject_id']}"
        case "command":
            return f"/#/command/{event['command_id']}"
        case "report":
            return f"/#/reports/{event['subject_id']}"
        case _:
            name = event["agent_name"]
            return "/" if name is None else f"/#/agents/{quote(name, safe='')}"


def actions_for(event: Mapping[str, Any]) -> list[EventAction]:
    """What can be done about an event, most useful first."""
    agent, command, subject = event["agent_id"], event["command_id"], event["subject_id"]
    detail: Mapping[str, Any] = cast("Mapping[str, Any]", event["detail"]) if isinstance(event["detail"], dict) else {}
    read_agent = EventAction("read the agent", "GET", f"/v1/agents/{agent}")
    go_on = EventAction("end the wait", "POST", f"/v1/agents/{agent}/go-on", None, Role.OPERATOR)
    match event["kind"]:
        case "attention.asked":
            read = EventAction("read the request", "GET", f"/v1/attention/{subject}")
            if not event["is_open"] or detail.get("request_kind") == "idle":
                return [read]
            if detail.get("request_kind") in NOTES:
                dismiss = f"/v1/attention/{subject}/dismiss"
                return [EventAction("dismiss the note", "POST", dismiss, None, Role.OPERATOR), read]
            answer = f"/v1/attention/{subject}/answer"
            return [EventAction("answer the request", "POST", answer, "AnswerBody", Role.OPERATOR), read]
        case "attention.answered" | "attention.withdrawn":
            return [EventAction("read the request", "GET", f"/v1/attention/{subject}")]
        case "command.ended":
            send = f"/v1/agents/{agent}/commands"
            return [
                EventAction("read the command", "GET", f"/v1/commands/{command}"),
                EventAction("read its steps", "GET", f"/v1/commands/{command}/steps"),
                EventAction("send the next command", "POST", send, "NewAgentCommand", Role.OPERATOR),
            ]
        case "agent.status":
            match detail.get("name"):
                case AgentActivity.WAITING:
                    waiting = f"/v1/attention?state=open&agent_id={agent}"
                    return [EventAction("list its requests", "GET", waiting), read_agent]
                case AgentActivity.WORKING:
                    cancel = f"/v1/commands/{command}/cancel"
                    return [
                        read_agent,
                        EventAction("cancel its command", "POST", cancel, "CancelRequest", Role.OPERATOR),
                    ]
                case AgentActivity.PAUSED:
                    resume = f"/v1/agents/{agent}/resume"
                    return [EventAction("resume the agent", "POST", resume, None, Role.OPERATOR), read_agent]
                case AgentActivity.LIMITED:
                    return [go_on, read_agent]
                case _:
                    return [read_agent]
        case "limit.reached":
            return [go_on, read_agent]
        case "report.written":
            return [
                EventAction("read the report", "GET", f"/v1/reports/{subject}"),
                EventAction("export the report", "GET", f"/v1/reports/{subject}/export"),
                EventAction("keep the report", "PUT", f"/v1/reports/{subject}/pin", None, Role.OPERATOR),
            ]
        case "halt.begun":
            read_halt = EventAction("read its progress", "GET", "/v1/halt")
            return [read_halt, EventAction("lift the halt", "DELETE", "/v1/halt", None, Role.ADMIN)]
        case "halt.lifted":
            return [EventAction("read the halt", "GET", "/v1/halt")]
        case _:
            return [read_agent]
