"""Groups: one instruction for several agents, followed and cancelled as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import to_builtins
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.idempotency import Once
from onsembl.api.http.models import CancelRequest, NoBody, PageQuery
from onsembl.api.http.problems import Problem
from onsembl.api.routes.commands_models import Group, Groups, NewGroup
from onsembl.fleet import cancel
from onsembl.fleet.commands import promote_queues, send
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import command_groups
from onsembl.sql.database import Connection


async def create_group(call: Call[NewGroup]) -> dict[str, Any]:
    """All of the rows are written, or none; then each line moves."""
    body = call.body
    body.target.check()
    once = Once(call)
    pool = call.services.pool
    agent_ids: Sequence[AgentId] = ()
    async with pool.connection() as conn:
        group_id = await once.made_before(conn)
        if group_id is None:
            sent = await send(conn, body, to_builtins(body.target), call.actor)
            assert sent.group is not None
            group_id, agent_ids = sent.group["id"], sent.agent_ids
            await once.makes(conn, group_id)
    await promote_queues(pool, agent_ids)
    async with pool.connection() as conn:
        return await _whole(conn, group_id)


async def list_groups(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(PageQuery)
    async with call.services.pool.connection() as conn:
        rows = await command_groups.page(conn, query.before, query.limit + 1)
        page = rows[: query.limit]
        counts = await command_groups.counts(conn, [row["id"] for row in page])
    groups = [{**row, "counts": counts[row["id"]]} for row in page]
    return {"groups": groups, "next_before": page[-1]["seq"] if len(rows) > query.limit else None}


async def read_group(call: Call[NoBody]) -> dict[str, Any]:
    async with call.services.pool.connection() as conn:
        return await _whole(conn, call.id("group_id"))


async def cancel_group(call: Call[CancelRequest]) -> dict[str, Any]:
    """What waits is cancelled at once; what runs is interrupted."""
    group_id = call.id("group_id")
    async with call.services.pool.connection() as conn:
        await _whole(conn, group_id)
    cancelled = await cancel.cancel_group(call.services.pool, group_id, call.actor, call.body.reason)
    call.services.metrics.commands_changed(cancelled)
    async with call.services.pool.connection() as conn:
        return await _whole(conn, group_id)


async def _whole(conn: Connection, group_id: UUID) -> DictRow:
    row = await command_groups.get(conn, group_id)
    if row is None:
        raise Problem(404, "There is no such group.")
    counts = await command_groups.counts(conn, [group_id])
    return {**row, "counts": counts[group_id], "commands": await command_groups.commands_of(conn, group_id)}


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/groups",
        handler=create_group,
        summary="Put a command in the lines of several agents",
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
        summary="Groups, newest first",
        answer=Groups,
        query=PageQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/groups/{group_id:uuid}",
        handler=read_group,
        summary="One group, and its commands",
        answer=Group,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/groups/{group_id:uuid}/cancel",
        handler=cancel_group,
        summary="Cancel all of a group",
        answer=Group,
        role=Role.OPERATOR,
        body=CancelRequest,
        status=202,
        problems=(404,),
    ),
]
