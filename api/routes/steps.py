"""Steps: what happened in the turn of a command."""

from __future__ import annotations

from functools import partial

from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import found
from onsembl.api.routes.steps_models import StepAnswer, StepsAnswer, StepsQuery
from onsembl.protocol.ids import CommandId
from onsembl.sql import commands, steps

MAX_NUMBER = 2**31 - 1


async def list_steps(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(StepsQuery)
    command_id = CommandId(call.id("command_id"))
    async with call.services.pool.connection() as conn:
        found(await commands.get(conn, command_id), "command")
        page = await read_page(query.limit, partial(steps.page, conn, command_id, query.after))
    return {"steps": page.rows, "next_after": page.cursor("changed")}


async def read_step(call: Call[NoBody]) -> DictRow:
    number: int = call.request.path_params["number"]
    async with call.services.pool.connection() as conn:
        row = await steps.get(conn, call.id("command_id"), number) if number <= MAX_NUMBER else None
    return found(row, "step")


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/commands/{command_id:uuid}/steps",
        handler=list_steps,
        summary="List the steps of a command's turn, in the order of their last change",
        answer=StepsAnswer,
        query=StepsQuery,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/commands/{command_id:uuid}/steps/{number:number}",
        handler=read_step,
        summary="Read a step with its whole text and result",
        answer=StepAnswer,
        problems=(404,),
    ),
]
