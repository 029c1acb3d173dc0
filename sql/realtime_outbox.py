"""The outbox of changes, `realtime.outbox`, and the check whether the write-ahead log can be followed instead."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

CHANNEL = "realtime_outbox"
"""The NOTIFY channel that wakes the readers."""


async def why_not_the_log(conn: Connection) -> str | None:
    """The reason why this connection cannot follow the write-ahead log; None when it can."""
    cursor = await conn.execute(
        """select current_setting('wal_level') as wal_level, session_user as name,
                  r.rolreplication or r.rolsuper as may_replicate
           from pg_roles r where r.rolname = session_user"""
    )
    row = await cursor.fetchone()
    assert row is not None
    if row["wal_level"] != "logical":
        return f"wal_level is {row['wal_level']}, not logical"
    if not row["may_replicate"]:
        return f"the role {row['name']} lacks the attribute REPLICATION"
    return None


async def install(conn: Connection, publication: str) -> list[int]:
    """Create the missing triggers on the published tables; return the tables."""
    cursor = await conn.execute("select realtime.install_outbox(%s)::bigint[] as tables", [publication])
    row = await cursor.fetchone()
    assert row is not None
    return row["tables"]


async def remove(conn: Connection) -> None:
    """Remove the triggers."""
    await conn.execute("select realtime.remove_outbox()")


async def installed(conn: Connection) -> bool:
    cursor = await conn.execute("select exists (select from pg_trigger where tgname = 'realtime_outbox') as installed")
    row = await cursor.fetchone()
    assert row is not None
    return row["installed"]


async def snapshot(conn: Connection) -> str:
    """The snapshot of the current transaction, from which `new_since` finds newer changes."""
    cursor = await conn.execute("select pg_current_snapshot()::text as snapshot")
    row = await cursor.fetchone()
    assert row is not None
    return row["snapshot"]


async def new_since(conn: Connection, snapshot: str, tables: Sequence[int]) -> list[DictRow]:
    """Changes to these tables that were not visible in the snapshot, in the order in which they were written.

    `columns` are those of the table in the change's transaction: `[name, type, whether the replica identity has it]`
    each; null in a change that an earlier release wrote.
    """
    cursor = await conn.execute(
        """select relation, kind, new, old, at, columns from realtime.outbox
           where xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
               and not pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)
               and relation = any (%(tables)s::oid[])
           order by id""",
        {"snapshot": snapshot, "tables": list(tables)},
    )
    return await cursor.fetchall()


async def delete_old(conn: Connection) -> None:
    """Delete the changes that every reader has had time to read."""
    await conn.execute("delete from realtime.outbox where at < now() - interval '5 minutes'")


async def relation(conn: Connection, oid: int) -> list[DictRow]:
    """A table as it is now, as the write-ahead log describes it, one row per column: `schema`, `table`, `identity`,
    `name`, `type_oid`, `in_identity`."""
    cursor = await conn.execute(
        """select n.nspname as schema, c.relname as "table", c.relreplident::text as identity,
                  a.attname as name, a.atttypid as type_oid,
                  c.relreplident = 'f' or a.attnum = any (coalesce(i.indkey::int2[], '{}')) as in_identity
           from pg_class c
           join pg_namespace n on n.oid = c.relnamespace
           join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           left join pg_index i on i.indrelid = c.oid and
               case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary else false end
           where c.oid = %s
           order by a.attnum""",
        [oid],
    )
    return await cursor.fetchall()
