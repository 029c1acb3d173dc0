"""Files of an agent's working folder: look at them, and set what may be seen."""

from __future__ import annotations

import msgspec
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Agent, Body, NoBody, Query
from onsembl.api.http.problems import Problem, found
from onsembl.api.terminals.looks import AgentSilent, LookFailed
from onsembl.protocol.files import FilePath, FileRules, RequestedFileRules, Seen, split
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import agents, audit


class FilesQuery(Query, frozen=True, kw_only=True):
    """A path: relative to the agent's working folder, or absolute and below it. Without one, the folder itself."""

    path: FilePath = ""


class AgentFileRules(Body, frozen=True, kw_only=True):
    """What operators see of an agent's working folder, if the agent shows it."""

    rules: RequestedFileRules


async def read_file(call: Call[NoBody]) -> Seen:
    """The audit log records each look, also one that is refused."""
    path = call.query(FilesQuery).path
    async with call.services.pool.connection() as conn:
        agent = found(await agents.get(conn, AgentId(call.id("agent_id"))), "agent")
    try:
        rules = msgspec.convert(agent["file_rules"], FileRules)
    except msgspec.ValidationError as error:
        raise Problem(409, "What this agent shows cannot be read. Set its rules for files again.") from error
    role = call.signed_in.role
    if not rules.viewers and (role is None or not role.includes(Role.OPERATOR)):
        raise Problem(403, "Viewers do not see this agent's files, unless an admin allows it.")
    seen = await _look(call, agent, path, rules)
    outcome = "ok" if seen.kind not in ("refused", "missing") else "refused"
    detail = {"name": agent["name"], "path": seen.path, "kind": seen.kind}
    async with call.services.pool.connection() as conn:
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="agent.file_seen",
                target_kind="agent",
                target_id=str(agent["id"]),
                outcome=outcome,
                detail=detail,
            ),
        )
    if seen.kind == "missing":
        raise Problem(404, "The agent's working folder has no such file or folder.")
    if seen.kind == "refused":
        raise Problem(403, seen.reason or "It is not shown.")
    return seen


async def _look(call: Call[NoBody], agent: DictRow, path: str, rules: FileRules) -> Seen:
    """The agent's answer. Raises Problem."""
    if agent["status"] != "online":
        raise Problem(409, f"{agent['name']} is offline.")
    if not agent["shows_files"]:
        raise Problem(409, f"{agent['name']} shows no files: it was not started with --files.")
    link = call.services.hub.links.get(AgentId(agent["id"]))
    try:
        if link is None:
            return await call.services.relays.look(AgentId(agent["id"]), path, rules)
        return await call.services.hub.looks.look(link, path, rules)
    except AgentSilent as error:
        raise Problem(504, str(error)) from error
    except LookFailed as error:
        raise Problem(503, str(error), headers={"Retry-After": "2"}) from error


async def set_file_rules(call: Call[AgentFileRules]) -> DictRow:
    rules = call.body.rules
    if wrong := [root for root in rules.roots if split(root) is None]:
        raise Problem(422, f"A root is a path within the working folder: {wrong[0]!r} is none.")
    async with call.services.pool.connection() as conn:
        before = found(await agents.get(conn, AgentId(call.id("agent_id"))), "agent")
        row = found(await agents.set_file_rules(conn, AgentId(before["id"]), rules), "agent")
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="agent.file_rules_set",
                target_kind="agent",
                target_id=str(row["id"]),
                detail={"name": row["name"], "rules": [before["file_rules"], row["file_rules"]]},
            ),
        )
    return row


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/agents/{agent_id:uuid}/files",
        handler=read_file,
        summary="Look at a file or a folder of an agent's working folder",
        answer=Seen,
        query=FilesQuery,
        problems=(403, 404, 409, 503, 504),
    ),
    Endpoint(
        method="PUT",
        path="/v1/agents/{agent_id:uuid}/file-rules",
        handler=set_file_rules,
        summary="Set what operators see of an agent's working folder",
        answer=Agent,
        role=Role.ADMIN,
        body=AgentFileRules,
        problems=(404,),
    ),
]
