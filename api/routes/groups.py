"""Groups: one command for several agents, followed and cancelled as one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from msgspec import to_builtins
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.idempotency import Once
from onsembl.api.http.models import NoBody, PageQuery
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import found
from onsembl.api.routes.commands_models import CancelRequest, Group, Groups, NewGroup
from onsembl.fleet import cancel
from onsembl.fleet.commands import promote_queues, send
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import command_groups
from onsembl.sql.database import Connection


async def create_group(call: Call[NewGroup]) -> dict[str, Any]:
    """Write all commands of the group in one transaction, then promote each agent's queue."""
    body = call.body
    body.target.check()
    once = Once(call)
    pool = call.services.pool
    agent_ids: Sequence[AgentId] = ()
    async with pool.connection() as conn:
        group_id = await once.made_before(conn)
        if group_id is None:
            sent = await send(conn, body, to_builtins(body.target), call.actor, attachments=body.attachments)
            assert sent.group is not None
            group_id, agent_ids = sent.group["id"], sent.agent_ids
            await once.makes(conn, group_id)
    await promote_queues(pool, agent_ids)
    async with pool.connection() as conn:
        return await _whole(conn, group_id)


async def list_groups(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(PageQuery)
    async with call.services.pool.connection() as conn:
        page = await read_page(query.limit, partial(command_groups.page, conn, query.before))
        counts = await command_groups.counts(conn, [row["id"] for row in page.rows])
    groups = [{**row, "counts": counts[row["id"]]} for row in page.rows]
    return {"groups": groups, "next_before": page.cursor("seq")}


async def read_group(call: Call[NoBody]) -> dict[str, Any]:
    async with call.services.pool.connection() as conn:
        return await _whole(conn, call.id("group_id"))


async def cancel_group(call: Call[CancelRequest]) -> dict[str, Any]:
    """Cancel queued commands at once, and interrupt running ones."""
    group_id = call.id("group_id")
    async with call.services.pool.connection() as conn:
        await _whole(conn, group_id)
    cancelled = await cancel.cancel_group(call.services.pool, group_id, call.actor, call.body.reason)
    call.services.metrics.commands_changed(cancelled)
    async with call.services.pool.connection() as conn:
        return await _whole(conn, group_id)


async def _whole(conn: Connection, group_id: UUID) -> DictRow:
    row = found(await command_groups.get(conn, group_id), "group")
    counts = await command_groups.counts(conn, [group_id])
    return {**row, "counts": counts[group_id], "commands": await command_groups.commands_of(conn, group_id)}


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/groups",
        handler=create_group,
        summary="Send a command to several agents",
        answer=Group,
        role=Role.OPERATOR,
        body=NewGroup,
        status=201,
        problems=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/groups",
        handler=list_groups,
        summary="List groups, newest first",
        answer=Groups,
        query=PageQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/groups/{group_id:uuid}",
        handler=read_group,
        summary="Read a group and its commands",
        answer=Group,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/groups/{group_id:uuid}/cancel",
        handler=cancel_group,
        summary="Cancel all commands of a group",
        answer=Group,
        role=Role.OPERATOR,
        body=CancelRequest,
        status=202,
        problems=(404,),
    ),
]
