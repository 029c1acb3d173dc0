"""The requirements on the database of a Supabase project: checks and repairs."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.sql.database import Connection
from onsembl.sql.published_tables import PUBLISHED


async def ensure_published(conn: Connection) -> list[str]:
    """Add our missing tables to the publication; return their names."""
    cursor = await conn.execute("select 1 from pg_publication where pubname = 'supabase_realtime'")
    if await cursor.fetchone() is None:
        await conn.execute("create publication supabase_realtime")
    present = await published(conn)
    missing = [table for table in PUBLISHED if table not in present]
    for table in missing:
        await conn.execute(f"alter publication supabase_realtime add table onsembl.{table}".encode())
    return missing


async def ensure_granted(conn: Connection) -> None:
    """Grant operators' browsers read access to the columns of our published tables; row-level security limits the
    rows."""
    await conn.execute("grant usage on schema onsembl to authenticated")
    for name, table in PUBLISHED.items():
        columns = ", ".join(f'"{column}"' for column in table.columns)
        await conn.execute(f"grant select ({columns}) on onsembl.{name} to authenticated".encode())


async def ensure_channel_policy(conn: Connection) -> bool:
    """Let operators join the page's private channels; return whether the policy was missing."""
    cursor = await conn.execute("select onsembl.create_channel_policy() as created")
    row = await cursor.fetchone()
    assert row is not None
    return row["created"]


async def has_channel_policy(conn: Connection) -> bool:
    """Whether operators may join the page's private channels."""
    cursor = await conn.execute(
        """select from pg_policies
           where schemaname = 'realtime' and tablename = 'messages' and policyname = 'onsembl_operators_read'"""
    )
    return await cursor.fetchone() is not None


async def published(conn: Connection) -> set[str]:
    """Our tables in the publication."""
    cursor = await conn.execute(
        "select tablename from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'onsembl'"
    )
    return {row["tablename"] for row in await cursor.fetchall()}


async def readable(conn: Connection) -> dict[str, set[str]]:
    """The columns of our tables that `authenticated` may select, by table."""
    cursor = await conn.execute(
        """select c.relname as tablename, array_agg(a.attname::text) as columns
           from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           where c.relnamespace = 'onsembl'::regnamespace and c.relkind in ('r', 'p')
             and has_schema_privilege('authenticated', c.relnamespace, 'usage')
             and has_column_privilege('authenticated', c.oid, a.attnum, 'select')
           group by c.relname"""
    )
    return {row["tablename"]: set(row["columns"]) for row in await cursor.fetchall()}


async def missing_grants(conn: Connection) -> set[str]:
    """Our published tables of which operators' browsers cannot read every column of the list."""
    present = await readable(conn)
    return {name for name, table in PUBLISHED.items() if not set(table.columns) <= present.get(name, set())}


async def excess_grants(conn: Connection) -> set[str]:
    """Columns of our tables (`table.column`) that operators' browsers can read and the REST API does not show."""
    listed = {name: set(table.columns) for name, table in PUBLISHED.items()}
    return {
        f"{name}.{column}"
        for name, columns in (await readable(conn)).items()
        for column in columns - listed.get(name, set())
    }


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
    """Published tables without a policy for operators."""
    cursor = await conn.execute(
        """select name from unnest(%s::text[]) as name
           where not exists (
               select from pg_policies
               where schemaname = 'onsembl' and tablename = name and cmd in ('SELECT', 'ALL')
                 and 'authenticated' = any (roles))""",
        [list(PUBLISHED)],
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
