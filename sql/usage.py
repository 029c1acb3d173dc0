"""The `turn_usage` table: the tokens and the cost of each turn, by model. A trigger of `commands` writes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from psycopg.rows import DictRow

from onsembl.sql.database import Connection, allow_pauses

By = Literal["day", "model", "agent", "operator", "conversation", "label", "turn"]
COLUMNS = """command_id, model, ended_at, agent_id, agent_name, labels, operator_id, operator_name, conversation_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, cost_source, prices, partial"""

_NEWEST: LiteralString = "(array_agg({} order by ended_at desc))[1]"
_GROUPS: dict[By, tuple[LiteralString, LiteralString]] = {
    "day": ("to_char(ended_at at time zone %(zone)s, 'YYYY-MM-DD')", "min(key)"),
    "model": ("model", "min(model)"),
    "agent": ("agent_id::text", _NEWEST.format("agent_name")),
    "operator": ("coalesce(operator_id::text, '')", _NEWEST.format("operator_name")),
    "conversation": (
        "coalesce(conversation_id::text, '')",
        "coalesce((select title from conversations where id::text = key), '')",
    ),
    "label": ("label", "min(label)"),
    "turn": ("command_id::text", "coalesce((select left(text, 200) from commands where id::text = key), '')"),
}
"""The key by which turns are grouped, and the name of a group for people."""


def _sum(column: LiteralString, condition: LiteralString = "true") -> LiteralString:
    return f"least(coalesce(sum({column}) filter (where {condition}), 0), 9007199254740992)::bigint"


_SUMS: LiteralString = f"""count(distinct command_id) as turns, {_sum("input_tokens")} as input_tokens,
    {_sum("output_tokens")} as output_tokens, {_sum("cache_read_tokens")} as cache_read_tokens,
    {_sum("cache_write_tokens")} as cache_write_tokens, sum(cost_usd) as cost_usd,
    coalesce(sum(cost_usd) filter (where cost_source = 'prices'), 0) as estimated_usd,
    {_sum("input_tokens + output_tokens + cache_read_tokens + cache_write_tokens", "cost_usd is null")}
        as unpriced_tokens,
    count(distinct command_id) filter (where partial) as partial_turns"""


@dataclass(frozen=True, slots=True)
class Period:
    """Turns that ended from `since` up to `until`; `zone` is the time zone of the days."""

    since: datetime
    until: datetime
    zone: str = "UTC"


async def by(conn: Connection, group: By, period: Period, limit: int) -> tuple[list[DictRow], DictRow]:
    """At most `limit` groups, and the sum of all turns. Days come in order, with the last ones if there are too many;
    other groups by their cost, then by their tokens, the highest first. A turn counts to each label of its agent."""
    key, name = _GROUPS[group]
    labels: LiteralString = (
        "cross join lateral unnest(case when labels = '{}' then array[''] else labels end) as label"
        if group == "label"
        else ""
    )
    order: LiteralString = (
        "key desc"
        if group == "day"
        else "cost_usd desc nulls last, input_tokens + output_tokens + cache_write_tokens desc, key"
    )
    parameters = {"since": period.since, "until": period.until, "zone": period.zone, "limit": limit}
    cursor = await conn.execute(
        f"""select * from (
                select key, {name} as name, {_SUMS}
                from (
                    select *, {key} as key from turn_usage {labels}
                    where ended_at >= %(since)s and ended_at < %(until)s) as used
                group by key) as groups
            order by {order}
            limit %(limit)s""",
        parameters,
    )
    rows = await cursor.fetchall()
    cursor = await conn.execute(
        f"select {_SUMS} from turn_usage where ended_at >= %(since)s and ended_at < %(until)s", parameters
    )
    total = await cursor.fetchone()
    assert total is not None
    return (rows[::-1] if group == "day" else rows), total


async def all_rows(conn: Connection, period: Period) -> AsyncGenerator[DictRow]:
    """Every row of the period, oldest first, without holding them all in memory."""
    await allow_pauses(conn)
    async with conn.cursor("turn_usage") as cursor:
        await cursor.execute(
            f"""select {COLUMNS} from turn_usage where ended_at >= %s and ended_at < %s
                order by ended_at, command_id, model""",
            [period.since, period.until],
        )
        async for row in cursor:
            yield row
