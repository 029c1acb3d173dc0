"""What the Realtime stand-in asks of the catalog and of row-level security."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow

Connection = AsyncConnection[DictRow]

PUBLICATION = "supabase_realtime"


async def published(conn: Connection) -> list[DictRow]:
    """The tables of the publication: `schema`, `table` and `oid`."""
    cursor = await conn.execute(
        """select n.nspname as schema, c.relname as table, c.oid
           from pg_publication_tables p
           join pg_namespace n on n.nspname = p.schemaname
           join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
           where p.pubname = %s""",
        [PUBLICATION],
    )
    return await cursor.fetchall()


async def columns(conn: Connection, table: int, role: str) -> list[DictRow]:
    """A table's columns in order, with whether they are of the primary key and whether `role` may read them."""
    cursor = await conn.execute(
        """select a.attname as name, t.typname as type, format_type(a.atttypid, a.atttypmod) as sql_type,
                  a.attnum = any (coalesce(i.indkey::int2[], '{}')) as key,
                  has_column_privilege(%(role)s, a.attrelid, a.attnum, 'select') as readable,
                  c.relrowsecurity as row_security,
                  r.rolbypassrls as bypass
           from pg_attribute a
           join pg_class c on c.oid = a.attrelid
           join pg_type t on t.oid = a.atttypid
           join pg_roles r on r.rolname = %(role)s
           left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
           where a.attrelid = %(table)s and a.attnum > 0 and not a.attisdropped
           order by a.attnum""",
        {"table": table, "role": role},
    )
    return await cursor.fetchall()


async def visible_to(
    conn: Connection, table: int, keys: dict[str, str], roles: Sequence[str], claims: Sequence[str]
) -> list[bool]:
    """For each subscriber, whether it may see the row with this primary key."""
    cursor = await conn.execute(
        "select realtime.visible_to(%s::oid::regclass, %s, %s, %s, %s) as visible",
        [table, list(keys), list(keys.values()), list(roles), list(claims)],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["visible"]


async def passes(conn: Connection, value: str | None, sql_type: str, operator: str, argument: str) -> bool:
    """Whether a column's value passes one filter. Raises psycopg.Error for an argument that is not of its type."""
    cursor = await conn.execute(
        "select realtime.passes(%s, %s::regtype, %s, %s) as passed", [value, sql_type, operator, argument]
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["passed"]


async def current_values(
    conn: Connection, schema: str, table: str, names: Sequence[str], keys: dict[str, str]
) -> dict[str, str | None]:
    """Columns of a row as text: for values that the log leaves out because they did not change."""
    query = sql.SQL("select {} from {} where {}").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names),
        sql.Identifier(schema, table),
        sql.SQL(" and ").join(sql.SQL("{}::text = %s").format(sql.Identifier(name)) for name in keys),
    )
    cursor = await conn.execute(query, list(keys.values()))
    row = await cursor.fetchone()
    return dict(zip(names, row.values(), strict=True)) if row else {}
