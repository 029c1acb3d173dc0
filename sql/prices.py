"""The `prices` table: USD per million tokens of the models that fit a pattern, from a day on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

COLUMNS = """id, pattern, valid_from, input_usd, output_usd, cache_read_usd, cache_write_usd, updated_at,
    updated_by_name"""


async def list_prices(conn: Connection) -> list[DictRow]:
    """All prices by pattern, the newest of each first."""
    cursor = await conn.execute(f"select {COLUMNS} from prices order by lower(pattern), valid_from desc")
    return await cursor.fetchall()


async def count(conn: Connection) -> int:
    """How many prices there are; no other transaction adds one before this one has ended."""
    await conn.execute("lock table prices in share row exclusive mode")
    cursor = await conn.execute("select count(*) as n from prices")
    row = await cursor.fetchone()
    assert row is not None
    return row["n"]


async def save(
    conn: Connection, pattern: str, valid_from: date | None, prices: Mapping[str, float], by: UUID, by_name: str
) -> DictRow:
    """Set the prices of a pattern from a day on, by default today; they replace those of the same day."""
    cursor = await conn.execute(
        f"""insert into prices (pattern, valid_from, input_usd, output_usd, cache_read_usd, cache_write_usd,
                updated_by, updated_by_name)
            values (%(pattern)s, coalesce(%(from)s, (now() at time zone 'utc')::date), %(input_usd)s, %(output_usd)s,
                %(cache_read_usd)s, %(cache_write_usd)s, %(by)s, %(by_name)s)
            on conflict (lower(pattern), valid_from) do update
            set pattern = excluded.pattern, input_usd = excluded.input_usd, output_usd = excluded.output_usd,
                cache_read_usd = excluded.cache_read_usd, cache_write_usd = excluded.cache_write_usd,
                updated_at = now(), updated_by = excluded.updated_by, updated_by_name = excluded.updated_by_name
            returning {COLUMNS}""",
        {"pattern": pattern, "from": valid_from, **prices, "by": by, "by_name": by_name},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def estimate(conn: Connection, since: date) -> int:
    """Estimate the cost of the usage since a day that has no cost yet; return the number of rows that got one.

    A row keeps the cost and the prices that it has.
    """
    cursor = await conn.execute(
        """update turn_usage as u set cost_usd = estimated.cost, cost_source = 'prices', prices = estimated.prices
           from (
               select command_id, model, prices_on_row(p) as prices,
                   estimated_cost(p, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens) as cost
               from turn_usage as w, lateral prices_of(w.model, (w.ended_at at time zone 'utc')::date) as p
               where w.cost_usd is null and w.ended_at >= %s::timestamp at time zone 'utc') as estimated
           where u.command_id = estimated.command_id and u.model = estimated.model and u.cost_usd is null""",
        [since],
    )
    return cursor.rowcount


async def delete(conn: Connection, price_id: int) -> DictRow | None:
    """Delete prices; return their row, None when they do not exist. Costs that were estimated by them stay."""
    cursor = await conn.execute(f"delete from prices where id = %s returning {COLUMNS}", [price_id])
    return await cursor.fetchone()
