"""Commands: send, read, edit, move, annotate and cancel them; and the queue of an agent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from msgspec import UNSET
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.idempotency import Once
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.commands_models import (
    AgentQueue,
    CancelRequest,
    Command,
    CommandQuery,
    Commands,
    EditCommand,
    MoveCommand,
    NewAgentCommand,
    QueuedCommand,
    ReassignCommand,
    Tags,
)
from onsembl.api.routes.search_models import terms_of
from onsembl.fleet.cancel import request_cancel
from onsembl.fleet.commands import ContentError, send, steer
from onsembl.fleet.reassign import reassign
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.queue_order import move
from onsembl.protocol.states import AgentStatus, CommandState, Role
from onsembl.sql import agents, audit, command_history, commands, halts, queues, steps
from onsembl.sql.command_history import HistoryFilter
from onsembl.sql.database import Connection, statement

MAX_QUEUED_SHOWN = 1000
TAGS = 100
EDITABLE = ("text", "priority", "limits")
GIVEN = "The running turn has been given this text: cancel the turn to stop it."


async def send_command(call: Call[NewAgentCommand]) -> DictRow:
    """Put a command in an agent's queue. If the agent is free, the command gets its job in the same transaction."""
    agent_id = AgentId(call.id("agent_id"))
    once = Once(call)
    # Without a key, a file, and a preset to look up, one statement is all.
    async with (
        call.services.pool.connection()
        if once.keyed or call.body.steer or call.body.attachments
        else statement(call.services.pool) as conn
    ):
        made = await once.made_before(conn)
        if made is not None:
            return await _found(conn, CommandId(made))
        if call.body.steer:
            if call.body.attachments:
                raise ContentError("A text for the running turn takes no files. Queue it.")
            row = await steer(conn, call.body, agent_id, call.actor)
        else:
            row = (await send(conn, call.body, agent_id, call.actor, attachments=call.body.attachments)).command
            assert row is not None
        await once.makes(conn, row["id"])
    await call.services.hub.dispatch(row)
    return row


async def list_commands(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(CommandQuery)
    wanted = HistoryFilter(
        agent_id=AgentId(query.agent_id) if query.agent_id is not None else None,
        states=query.states(),
        group_id=query.group_id,
        conversation_id=query.conversation_id,
        tag=query.tag,
        by=query.by,
        since=query.since,
        until=query.until,
        terms=terms_of(query.q) if query.q is not None else (),
    )
    async with call.services.pool.connection() as conn:
        page = await read_page(query.limit, partial(command_history.page, conn, wanted, query.before))
        last_lines = await steps.last_lines(conn, [row["id"] for row in page.rows])
    return {"commands": page.rows, "last_lines": last_lines, "next_before": page.cursor("seq")}


async def read_command(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        return await _found(conn, CommandId(call.id("command_id")))


async def edit_command(call: Call[EditCommand]) -> DictRow:
    """Change all of the given fields, or none."""
    body, command_id = call.body, CommandId(call.id("command_id"))
    async with call.services.pool.connection() as conn:
        before = await _found(conn, command_id)
        row = before
        if not (body.text is UNSET and body.priority is UNSET and body.limits is UNSET):
            text = body.text if body.text is not UNSET else None
            priority = body.priority if body.priority is not UNSET else None
            limits = body.limits if body.limits is not UNSET else None
            row = await queues.edit(conn, command_id, text, priority, limits, body.revision)
            if row is None:
                raise _too_late(await _found(conn, command_id))
            detail = {name: [before[name], row[name]] for name in EDITABLE if before[name] != row[name]}
            await audit.write(conn, _event(call, "command.edited", row, detail))
        if body.note is not UNSET or body.tags is not UNSET:
            note = body.note if body.note is not UNSET else None
            tags = list(dict.fromkeys(body.tags)) if body.tags is not UNSET else None
            row = await command_history.annotate(conn, command_id, note, tags)
            assert row is not None, "no command is ever removed"
            detail = {name: [before[name], row[name]] for name in ("note", "tags") if before[name] != row[name]}
            await audit.write(conn, _event(call, "command.annotated", row, detail))
    return row


async def move_command(call: Call[MoveCommand]) -> DictRow:
    body, command_id = call.body, CommandId(call.id("command_id"))
    if (body.to in ("before", "after")) != (body.other is not None):
        raise Problem(422, "The body is invalid: `other` goes with `before` and `after`, and only with them.")
    async with call.services.pool.connection() as conn:
        agent_id = AgentId((await _found(conn, command_id))["agent_id"])
        await agents.lock(conn, agent_id)
        queue = await queues.queued(conn, agent_id)
        try:
            places = move(queue, command_id, body.to, body.other, await queues.newest(conn))
        except LookupError as error:
            raise Problem(409, f"The command cannot be moved there: {error}.") from error
        await queues.put_at(conn, places)
        row = await _found(conn, command_id)
        other = str(body.other) if body.other is not None else None
        await audit.write(conn, _event(call, "command.moved", row, {"to": body.to, "other": other}))
    return row


async def reassign_command(call: Call[ReassignCommand]) -> DictRow:
    """Cancel a queued command and send it to another agent; a prompt begins a new conversation there."""
    async with call.services.pool.connection() as conn:
        command = await _found(conn, CommandId(call.id("command_id")))
        row = await reassign(conn, command, AgentId(call.body.agent_id), call.actor)
    call.services.metrics.cancelled_in_queue(1)
    await call.services.hub.dispatch(row)
    return row


async def read_queue(call: Call[NoBody]) -> AgentQueue:
    """The place of each queued command, and its estimated start."""
    agent_id = AgentId(call.id("agent_id"))
    async with call.services.pool.connection() as conn:
        agent = found(await agents.get(conn, agent_id), "agent")
        queue = await queues.queued(conn, agent_id)
        typical = await queues.typical_seconds(conn, agent_id)
        left = await queues.occupied_for(conn, agent_id, typical) if typical is not None else None
        moves = agent["status"] == AgentStatus.ONLINE and agent["paused_at"] is None and agent["limited_until"] is None
        moves = moves and await halts.in_force(conn) is None
    return AgentQueue(
        agent_id=agent_id,
        typical_seconds=typical,
        waiting=[
            QueuedCommand(
                command_id=place.command_id,
                ahead=index,
                starts_in=left + typical * index if moves and typical is not None and left is not None else None,
            )
            for index, place in enumerate(queue[:MAX_QUEUED_SHOWN])
        ],
    )


async def cancel_command(call: Call[CancelRequest]) -> DictRow:
    """A queued command is cancelled at once; one that runs is interrupted, and cancelled when its processes are
    gone."""
    command_id = CommandId(call.id("command_id"))
    async with call.services.pool.connection() as conn:
        row = await request_cancel(conn, command_id, call.actor, call.body.reason)
        if row is None:
            found_row = await _found(conn, command_id)
            state = CommandState(found_row["state"])
            if state is CommandState.QUEUED:
                raise Problem(409, GIVEN, state=state)
            raise Problem(409, f"The command has already ended: {state}.", state=state)
    call.services.metrics.commands_changed([row])
    await call.services.hub.dispatch(row)
    return row


async def list_tags(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        return {"tags": await command_history.tags_in_use(conn, TAGS)}


async def _found(conn: Connection, command_id: CommandId) -> DictRow:
    return found(await commands.get(conn, command_id), "command")


def _too_late(row: DictRow) -> Problem:
    state = CommandState(row["state"])
    if state is CommandState.QUEUED and row["steer_state"] == "given":
        return Problem(409, GIVEN, state=state)
    if state is CommandState.QUEUED:
        return Problem(
            409, "The command was changed in the meantime. Read it again.", state=state, revision=row["revision"]
        )
    return Problem(409, f"The command is no longer queued: {state}.", state=state)


def _event(
    call: Call[EditCommand] | Call[MoveCommand], action: str, row: DictRow, detail: Mapping[str, object]
) -> audit.Event:
    return audit.Event(actor=call.actor, action=action, target_kind="command", target_id=str(row["id"]), detail=detail)


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/agents/{agent_id:uuid}/commands",
        handler=send_command,
        summary="Send a command to an agent",
        answer=Command,
        role=Role.OPERATOR,
        body=NewAgentCommand,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/commands",
        handler=list_commands,
        summary="List commands, newest first",
        answer=Commands,
        query=CommandQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/commands/{command_id:uuid}",
        handler=read_command,
        summary="Read a command",
        answer=Command,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/commands/{command_id:uuid}/cancel",
        handler=cancel_command,
        summary="Cancel a command",
        answer=Command,
        role=Role.OPERATOR,
        body=CancelRequest,
        status=202,
        problems=(404, 409),
    ),
    Endpoint(
        method="PATCH",
        path="/v1/commands/{command_id:uuid}",
        handler=edit_command,
        summary="Edit a queued command, or set the note and the tags of any command",
        answer=Command,
        role=Role.OPERATOR,
        body=EditCommand,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/commands/{command_id:uuid}/move",
        handler=move_command,
        summary="Move a queued command within its agent's queue",
        answer=Command,
        role=Role.OPERATOR,
        body=MoveCommand,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/commands/{command_id:uuid}/reassign",
        handler=reassign_command,
        summary="Send a queued command to another agent",
        answer=Command,
        role=Role.OPERATOR,
        body=ReassignCommand,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/agents/{agent_id:uuid}/queue",
        old_paths=("/v1/agents/{agent_id:uuid}/line",),
        handler=read_queue,
        summary="Read an agent's queue, in order, with the estimated start of each command",
        answer=AgentQueue,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/tags",
        handler=list_tags,
        summary="List the tags of commands, the most used first",
        answer=Tags,
    ),
]
