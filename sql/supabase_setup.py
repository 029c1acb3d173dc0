"""The requirements on the database of a Supabase project: checks and repairs."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from onsembl.protocol.states import Role
from onsembl.sql.database import Connection
from onsembl.sql.published_tables import EVERY_PUBLISHED, PROBES, PUBLISHED

ACTIONS = ("insert", "update", "delete")
"""The changes that the page follows."""


@dataclass(frozen=True, slots=True)
class Publication:
    """The publication that Realtime follows. `actions` are those of insert, update and delete that it publishes."""

    all_tables: bool
    actions: frozenset[str]


async def publication(conn: Connection) -> Publication | None:
    """The publication; None if there is none."""
    cursor = await conn.execute(
        """select puballtables, array_remove(array[
               case when pubinsert then 'insert' end, case when pubupdate then 'update' end,
               case when pubdelete then 'delete' end], null) as actions
           from pg_publication where pubname = 'supabase_realtime'"""
    )
    row = await cursor.fetchone()
    return Publication(row["puballtables"], frozenset(row["actions"])) if row is not None else None


async def ensure_publication(conn: Connection) -> bool:
    """Create the publication unless it exists; return whether it was missing. Migrations add tables to it."""
    if await publication(conn) is not None:
        return False
    await conn.execute("create publication supabase_realtime")
    return True


async def ensure_published(conn: Connection) -> list[str]:
    """Add the missing tables and actions to the publication; return what was changed, one sentence each."""
    await ensure_publication(conn)
    found = await publication(conn)
    assert found is not None
    changes: list[str] = []
    if lacking := [action for action in ACTIONS if action not in found.actions]:
        await conn.execute("alter publication supabase_realtime set (publish = 'insert, update, delete, truncate')")
        changes.append(f"Published {' and '.join(f'{action}s' for action in lacking)}")
    present = await published(conn)
    for table in EVERY_PUBLISHED:
        if table not in present:
            await conn.execute(f"alter publication supabase_realtime add table onsembl.{table}".encode())
            changes.append(f"Published onsembl.{table}")
    return changes


async def ensure_granted(conn: Connection) -> list[str]:
    """Grant operators' browsers read access to the columns of our published tables, where it is missing; row-level
    security limits the rows. Return what was changed, one sentence each."""
    missing = await missing_grants(conn)
    if missing:
        await conn.execute("grant usage on schema onsembl to authenticated")
    for name in sorted(missing):
        columns = ", ".join(f'"{column}"' for column in EVERY_PUBLISHED[name].columns)
        await conn.execute(f"grant select ({columns}) on onsembl.{name} to authenticated".encode())
    return [f"Granted operators the right to read onsembl.{name}" for name in sorted(missing)]


async def ensure_read_policies(conn: Connection) -> list[str]:
    """Create the policy of each published table that lets operators read it, where it is missing; return what was
    changed, one sentence each."""
    missing = sorted(await without_read_policy(conn))
    for name in missing:
        condition = {
            PROBES: "user_id = (select auth.uid())",
            **{table: "(select onsembl.is_admin())" for table, of in PUBLISHED.items() if of.role is Role.ADMIN},
        }.get(name, "(select onsembl.is_operator())")
        await conn.execute(f"drop policy if exists operators_read on onsembl.{name}".encode())
        await conn.execute(
            f"create policy operators_read on onsembl.{name} for select to authenticated using ({condition})".encode()
        )
    return [f"Created the policy operators_read on onsembl.{name}" for name in missing]


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


async def reads_second_factors(conn: Connection) -> bool:
    """Whether the policies can tell which users have a second factor; true if the project's Auth has none."""
    cursor = await conn.execute(
        """select coalesce(has_table_privilege(t, 'select') and not row_security_active(t), true) as reads
           from to_regclass('auth.mfa_factors') as t"""
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["reads"]


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
    return {name for name, table in EVERY_PUBLISHED.items() if not set(table.columns) <= present.get(name, set())}


async def excess_grants(conn: Connection) -> set[str]:
    """Columns of our tables (`table.column`) that operators' browsers can read and the REST API does not show."""
    listed = {name: set(table.columns) for name, table in EVERY_PUBLISHED.items()}
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
        [list(EVERY_PUBLISHED)],
    )
    return {row["name"] for row in await cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """`version` is a number as 170004, `now` the server's clock (Unix time). `connections` is how many connections
    this login may have, and `bytes` the database's size."""

    version: int
    now: float
    read_only: bool
    connections: int
    bytes: int


async def server_facts(conn: Connection) -> ServerFacts:
    """The facts of the server that the checks judge."""
    cursor = await conn.execute(
        """select current_setting('server_version_num')::int as version,
               extract(epoch from clock_timestamp())::float8 as now,
               current_setting('default_transaction_read_only')::boolean or pg_is_in_recovery() as read_only,
               least(
                   current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
                   (select nullif(rolconnlimit, -1) from pg_roles where rolname = session_user and not rolsuper),
                   (select nullif(datconnlimit, -1) from pg_database where datname = current_database())
               ) as connections,
               pg_database_size(current_database()) as bytes"""
    )
    row = await cursor.fetchone()
    assert row is not None
    return ServerFacts(**row)


async def add_probe(conn: Connection, user_id: UUID) -> UUID:
    """Add a row that only this user sees; return its id."""
    cursor = await conn.execute("insert into onsembl.realtime_probes (user_id) values (%s) returning id", [user_id])
    row = await cursor.fetchone()
    assert row is not None
    return row["id"]


async def remove_probes(conn: Connection, user_id: UUID) -> None:
    """Delete the user's rows, and those that a check left when it was killed."""
    await conn.execute(
        "delete from onsembl.realtime_probes where user_id = %s or at < now() - interval '1 hour'", [user_id]
    )
