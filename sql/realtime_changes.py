"""Queries of the built-in Supabase Realtime about changes: columns, visible rows, filters, JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

PUBLICATION = "supabase_realtime"


async def columns(conn: Connection, table: int, role: str) -> list[DictRow]:
    """A table's columns in order, with whether they belong to the primary key and whether `role` may read them.

    There are no rows when the role does not exist.
    """
    cursor = await conn.execute(
        """select a.attname as name, a.atttypid as type_oid,
                  a.attnum = any (coalesce(i.indkey::int2[], '{}')) as key,
                  has_schema_privilege(r.oid, c.relnamespace, 'usage')
                      and has_column_privilege(r.oid, a.attrelid, a.attnum, 'select') as readable,
                  a.attgenerated::text as generated,
                  c.relrowsecurity as row_security,
                  r.rolbypassrls or r.rolsuper as bypass
           from pg_attribute a
           join pg_class c on c.oid = a.attrelid
           join pg_roles r on r.rolname = %(role)s
           left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
           where a.attrelid = %(table)s and a.attnum > 0 and not a.attisdropped
           order by a.attnum""",
        {"table": table, "role": role},
    )
    return await cursor.fetchall()


async def types(conn: Connection, oids: Sequence[int]) -> list[DictRow]:
    """Types by `oid`: the short `name` that clients get, and `sql_type` for casts. Dropped types are missing."""
    cursor = await conn.execute(
        "select oid, typname as name, format_type(oid, -1) as sql_type from pg_type where oid = any (%s::oid[])",
        [list(oids)],
    )
    return await cursor.fetchall()


async def publish_generated_columns(conn: Connection) -> None:
    """Have the write-ahead log's stream include stored generated columns; Postgres can since version 18.

    Without them an update fails on a table whose replica identity is full.
    """
    cursor = await conn.execute(
        """select from pg_publication where pubname = %s and current_setting('server_version_num')::int >= 180000
               and to_jsonb(pg_publication) ->> 'pubgencols' <> 's'""",
        [PUBLICATION],
    )
    if await cursor.fetchone() is not None:
        await conn.execute(f"alter publication {PUBLICATION} set (publish_generated_columns = stored)".encode())


async def generated_values(conn: Connection, table: int, given: Mapping[str, str | None]) -> dict[str, str | None]:
    """The stored generated columns of a row whose other columns are `given`, all in Postgres' text form."""
    cursor = await conn.execute(
        "select name, value from realtime.generated_values(%s::oid::regclass, %s, %s::text[])",
        [table, list(given), list(given.values())],
    )
    return {row["name"]: row["value"] for row in await cursor.fetchall()}


async def may_see(conn: Connection, table: int, identities: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether the policies of a table may let each identity (a role and its claims) see any of its rows."""
    cursor = await conn.execute(
        "select realtime.may_see(%s::oid::regclass, %s, %s) as answer",
        [table, [role for role, _ in identities], [claims for _, claims in identities]],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["answer"]


async def limit_statements(conn: Connection, seconds: float) -> None:
    """Cancel each later statement of the transaction that takes longer: it raises psycopg.errors.QueryCanceled."""
    await conn.execute("select set_config('statement_timeout', %s, true)", [f"{max(1, round(seconds * 1000))}ms"])


async def await_commits(conn: Connection, xids: Sequence[int]) -> None:
    """Wait until other transactions see the changes of these transactions."""
    await conn.execute("select realtime.await_commits(%s::bigint[])", [list(xids)])


async def visible_rows(
    conn: Connection,
    table: int,
    key_columns: Sequence[str],
    key_types: Sequence[str],
    keys: Sequence[Sequence[str | None]],
    identities: Sequence[tuple[str, str]],
) -> list[set[int]]:
    """For each identity (a role and its claims), the indexes of the keys whose rows it may see."""
    cursor = await conn.execute(
        "select visible from realtime.visible_rows(%s::oid::regclass, %s, %s, %s, %s, %s) order by subscriber",
        [
            table,
            list(key_columns),
            list(key_types),
            [value for key in keys for value in key],
            [role for role, _ in identities],
            [claims for _, claims in identities],
        ],
    )
    return [{number - 1 for number in row["visible"]} for row in await cursor.fetchall()]


async def passing(conn: Connection, questions: Sequence[tuple[str | None, str, str, str, bool]]) -> list[bool]:
    """Whether each value passes: a value, its type, the operator, the argument, and whether the operator is negated."""
    values, types, operators, arguments, negated = (list(part) for part in zip(*questions, strict=True))
    cursor = await conn.execute(
        "select realtime.passing(%s::text[], %s::text[], %s::text[], %s::text[], %s::boolean[]) as passing",
        [values, types, operators, arguments, negated],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["passing"]


async def json_texts(conn: Connection, values: Sequence[tuple[str, str]]) -> list[str]:
    """The JSON of each value, given its type."""
    texts, types = (list(part) for part in zip(*values, strict=True))
    cursor = await conn.execute("select realtime.json_texts(%s::text[], %s::text[]) as texts", [texts, types])
    row = await cursor.fetchone()
    assert row is not None
    return row["texts"]


async def check_subscription(
    conn: Connection,
    schema: str,
    table: str,
    role: str,
    filters: Sequence[tuple[str, str, str]],
    selected: Sequence[str] | None,
) -> int:
    """The number of published tables that the subscription covers and of which `role` may read a column.

    Raises psycopg.Error when a filter (column, operator, argument) is invalid.
    """
    names, operators, arguments = (list(part) for part in zip(*filters, strict=True)) if filters else ([], [], [])
    cursor = await conn.execute(
        """select realtime.check_subscription(
               %s, %s, %s, %s, %s::text[], %s::text[], %s::text[], %s::text[]) as found""",
        [PUBLICATION, schema, table, role, names, operators, arguments, list(selected) if selected else None],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["found"]
