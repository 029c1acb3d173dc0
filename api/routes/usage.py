"""Usage of tokens and money, and the prices by which a cost is estimated."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from functools import partial

from psycopg.rows import DictRow
from starlette.responses import Response, StreamingResponse

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.usage_models import (
    PeriodQuery,
    Price,
    Prices,
    PricesBody,
    SetPrice,
    UsageQuery,
    UsageReport,
)
from onsembl.api.services import Services
from onsembl.fleet.csv_rows import MEDIA_TYPE, csv_cell, csv_line
from onsembl.fleet.recurrence import RecurrenceError, time_zone
from onsembl.protocol.states import Role
from onsembl.sql import audit, prices, usage
from onsembl.sql.usage import Period

DEFAULT_PERIOD = timedelta(days=30)
MAX_PRICES = 1000
_COLUMNS = tuple(name.strip() for name in usage.COLUMNS.split(","))
_PRICES = ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd")


async def read_usage(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(UsageQuery)
    period = _period(query, query.time_zone)
    async with call.services.pool.connection() as conn:
        groups, total = await usage.by(conn, query.by, period, query.limit)
    return {"by": query.by, "since": period.since, "until": period.until, "groups": groups, "total": total}


async def export_usage(call: Call[NoBody]) -> Response:
    """One line for each turn and model, oldest first."""
    period = _period(call.query(PeriodQuery), "UTC")
    return StreamingResponse(
        _export(call.services, period),
        media_type=MEDIA_TYPE,
        headers={"Content-Disposition": 'attachment; filename="onsembl-usage.csv"'},
    )


async def _export(services: Services, period: Period) -> AsyncGenerator[bytes]:
    on_fault = partial(services.unreadable.record, "GET /v1/usage/export")
    block = bytearray(csv_line(_COLUMNS))
    async with services.pool.connection() as conn, aclosing(usage.all_rows(conn, period)) as rows:
        async for row in rows:
            block += csv_line([csv_cell(row, name, on_fault, "command_id") for name in _COLUMNS])
            if len(block) >= 65_536:
                yield bytes(block)
                block.clear()
    yield bytes(block)


def _period(query: PeriodQuery, zone: str) -> Period:
    """Raises Problem 400 for an empty period or an unknown time zone."""
    until = query.until or datetime.now(UTC)
    since = query.since or until - DEFAULT_PERIOD
    if since >= until:
        raise Problem(400, "The period is empty: `since` is not before `until`.")
    try:
        time_zone(zone)
    except RecurrenceError as error:
        raise Problem(400, str(error)) from error
    return Period(since, until, zone)


async def list_prices(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        return {"prices": await prices.list_prices(conn)}


async def set_price(call: Call[PricesBody]) -> dict[str, object]:
    """Usage since that day without a cost gets one; a cost that is known stays."""
    body, by = call.body, call.signed_in
    values = {
        "input_usd": body.input_usd,
        "output_usd": body.output_usd,
        "cache_read_usd": body.input_usd if body.cache_read_usd is None else body.cache_read_usd,
        "cache_write_usd": body.input_usd if body.cache_write_usd is None else body.cache_write_usd,
    }
    async with call.services.pool.connection() as conn:
        before = await prices.count(conn)
        row = await prices.save(conn, body.pattern, body.valid_from, values, by.id, by.email)
        if before >= MAX_PRICES and await prices.count(conn) > before:
            raise Problem(409, f"There are {MAX_PRICES} prices. Delete some first.")
        estimated = await prices.estimate(conn, row["valid_from"])
        await audit.write(conn, _event(call, "price.set", row))
    return {**row, "estimated": estimated}


async def delete_price(call: Call[NoBody]) -> DictRow:
    """Costs that were estimated by these prices stay."""
    async with call.services.pool.connection() as conn:
        row = found(await prices.delete(conn, call.request.path_params["price_id"]), "price")
        await audit.write(conn, _event(call, "price.deleted", row))
    return row


def _event(call: Call[PricesBody] | Call[NoBody], action: str, row: DictRow) -> audit.Event:
    since: date = row["valid_from"]
    return audit.Event(
        actor=call.actor,
        action=action,
        target_kind="price",
        target_id=str(row["id"]),
        detail={"pattern": row["pattern"], "valid_from": since.isoformat(), **{name: row[name] for name in _PRICES}},
    )


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/usage",
        handler=read_usage,
        summary="Read the tokens and the cost of turns, by day, model, agent, operator, conversation, label or turn",
        answer=UsageReport,
        query=UsageQuery,
        problems=(400,),
    ),
    Endpoint(
        method="GET",
        path="/v1/usage/export",
        handler=export_usage,
        summary="Export the usage of each turn and model as CSV, oldest first",
        answer=UsageReport,
        media_type="text/csv",
        query=PeriodQuery,
        problems=(400,),
    ),
    Endpoint(
        method="GET",
        path="/v1/prices",
        handler=list_prices,
        summary="List the prices by which costs are estimated",
        answer=Prices,
    ),
    Endpoint(
        method="PUT",
        path="/v1/prices",
        handler=set_price,
        summary="Set the prices of the models that fit a pattern, from a day on",
        body=PricesBody,
        answer=SetPrice,
        role=Role.ADMIN,
        problems=(409,),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/prices/{price_id:number}",
        handler=delete_price,
        summary="Delete prices; costs that were estimated by them stay",
        answer=Price,
        role=Role.ADMIN,
        problems=(404,),
    ),
]
