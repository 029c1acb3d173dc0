"""A write that nobody else sees: it fails when a write of any other table would fail."""

from __future__ import annotations

from onsembl.sql.database import Connection


async def write(conn: Connection) -> None:
    """Write one row that is gone at the end of the transaction; the caller commits. Raises psycopg.Error.

    The temporary table is empty after each commit, so the row needs a new page of the disk each time. The message makes
    the commit wait until the write-ahead log is on disk; streams of changes pass it over.
    """
    await conn.execute("create temporary table if not exists write_probe (at timestamptz) on commit delete rows")
    await conn.execute(
        """with written as (insert into pg_temp.write_probe values (now()))
           select pg_logical_emit_message(true, 'onsembl', '')"""
    )
