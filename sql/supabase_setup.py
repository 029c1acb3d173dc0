"""The requirements on the database of a Supabase project: checks and repairs."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

PUBLISHED = ("agents", "alerts", "commands")
"""Our tables whose changes the dashboard follows."""
READABLE = ("agents", "alerts", "commands", "streams")
"""Tables that an operator's browser may read."""


async def ensure_published(conn: Connection) -> list[str]:
    """Add our missing tables to the publication; return their names."""
    cursor = await conn.execute("select 1 from pg_publication where pubname = 'supabase_realtime'")
    if await cursor.fetchone() is None:
        await conn.execute("create publication supabase_realtime")
    missing = [table for table in PUBLISHED if table not in await published(conn)]
    for table in missing:
        await conn.execute(f"alter publication supabase_realtime add table onsembl.{table}".encode())
    return missing


async def ensure_granted(conn: Connection) -> None:
    """Grant operators' browsers read access to our tables; row-level security limits the rows."""
    await conn.execute("grant usage on schema onsembl to authenticated")
    for table in READABLE:
        await conn.execute(f"grant select on onsembl.{table} to authenticated".encode())


async def published(conn: Connection) -> set[str]:
    """Our tables in the publication."""
    cursor = await conn.execute(
        "select tablename from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'onsembl'"
    )
    return {row["tablename"] for row in await cursor.fetchall()}


async def readable(conn: Connection) -> set[str]:
    """Our tables that `authenticated` may select from."""
    cursor = await conn.execute(
        """select relname as tablename from pg_class
           where relnamespace = 'onsembl'::regnamespace and relkind in ('r', 'p')
             and has_schema_privilege('authenticated', relnamespace, 'usage')
             and has_table_privilege('authenticated', oid, 'select')"""
    )
    return {row["tablename"] for row in await cursor.fetchall()}


async def writable(conn: Connection) -> set[str]:
    """Our tables that a browser can write to: there must be none."""
    cursor = await conn.execute(
        """select relname as tablename from pg_class, unnest(array['anon', 'authenticated']) as role
           where relnamespace = 'onsembl'::regnamespace and relkind in ('r', 'p')
             and has_table_privilege(role, oid, 'insert, update, delete, truncate')"""
    )
    return {row["tablename"] for row in await cursor.fetchall()}


async def unprotected(conn: Connection) -> set[str]:
    """Our tables, and those of the queue, without row-level security."""
    cursor = await conn.execute(
        """select schemaname || '.' || tablename as name from pg_tables
           where schemaname in ('onsembl', 'procrastinate') and not rowsecurity"""
    )
    return {row["name"] for row in await cursor.fetchall()}


async def without_read_policy(conn: Connection) -> set[str]:
    """Readable tables without a policy for operators."""
    cursor = await conn.execute(
        """select name from unnest(%s::text[]) as name
           where not exists (
               select from pg_policies
               where schemaname = 'onsembl' and tablename = name and cmd in ('SELECT', 'ALL')
                 and 'authenticated' = any (roles))""",
        [list(READABLE)],
    )
    return {row["name"] for row in await cursor.fetchall()}


async def server_facts(conn: Connection) -> DictRow:
    """The server's version number (as 170004) and its clock (Unix time)."""
    cursor = await conn.execute(
        "select current_setting('server_version_num')::int as version,"
        " extract(epoch from clock_timestamp())::float8 as now"
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def touch_probe(conn: Connection, name: str) -> str:
    """Add a probe, a row without a real agent, for a subscriber to see; return its id."""
    cursor = await conn.execute("insert into onsembl.agents (name, kind) values (%s, 'shell') returning id", [name])
    row = await cursor.fetchone()
    assert row is not None
    return str(row["id"])


async def remove_probe(conn: Connection, name: str) -> None:
    """Delete the probe."""
    await conn.execute("delete from onsembl.agents where name = %s", [name])
