"""The `audit_chain` table: hashes over the audit log, each over the one before.

A row's text is a JSON array of strings, compact and in UTF-8: id, at (UTC, microseconds, `Z`), actor_kind, actor_id (or
empty), actor_name, action, target_kind, target_id, address, outcome, detail (as Postgres writes jsonb).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

TEXT = """array[
    a.id::text, to_char(a.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), a.actor_kind,
    coalesce(a.actor_id::text, ''), a.actor_name, a.action, a.target_kind, a.target_id, a.address, a.outcome,
    a.detail::text]"""


@dataclass(frozen=True, slots=True)
class Seal:
    """The state of the chain: rows of transactions below `horizon` are sealed, the last of them with number `seq`."""

    horizon: str
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """One row of the chain."""

    seq: int
    audit_id: int
    audit_at: datetime
    row_hash: bytes
    hash: bytes


async def seal(conn: Connection, *, to_lengthen: bool) -> Seal:
    """The state of the chain; with `to_lengthen`, locked until the transaction ends, so that one process at a time
    seals rows."""
    lock = "for update" if to_lengthen else ""
    cursor = await conn.execute(f"select horizon::text as horizon, seq, hash from audit_seal {lock}")
    row = await cursor.fetchone()
    assert row is not None
    return Seal(row["horizon"], row["seq"], bytes(row["hash"]))


NOT_LINKED = "not exists (select from audit_chain c where c.audit_id = a.id and c.audit_at = a.at)"
XMAX = "pg_snapshot_xmax(pg_current_snapshot())"
"""No transaction with this id or a later one has written a visible row."""


async def horizon(conn: Connection) -> str:
    """The oldest transaction that may still write; all earlier transactions have ended. It never decreases, except
    after a restore into another cluster, which counts its own transactions."""
    cursor = await conn.execute("select pg_snapshot_xmin(pg_current_snapshot())::text as horizon")
    row = await cursor.fetchone()
    assert row is not None
    return row["horizon"]


async def unsealed(conn: Connection, start: str, end: str, after: int, limit: int) -> list[DictRow]:
    """The next rows, by id, of transactions from `start` to below `end` that have no link yet, with their text."""
    cursor = await conn.execute(
        f"""select a.id, a.at, {TEXT} as text from audit a
            where a.tx >= %s::xid8 and a.tx < %s::xid8 and a.id > %s and {NOT_LINKED} order by a.id limit %s""",
        [start, end, after, limit],
    )
    return await cursor.fetchall()


async def unsealed_after_restore(conn: Connection, end: str, after: int, limit: int) -> list[DictRow]:
    """The next rows of a restored database that have no link yet: rows below `end`, and rows of another cluster's
    transactions."""
    cursor = await conn.execute(
        f"""select a.id, a.at, {TEXT} as text from audit a
            where (a.tx < %s::xid8 or a.tx >= {XMAX}) and a.id > %s and {NOT_LINKED} order by a.id limit %s""",
        [end, after, limit],
    )
    return await cursor.fetchall()


async def add(conn: Connection, links: Sequence[Link]) -> None:
    """Add links to the chain. (COPY does not work with row-level security.)"""
    await conn.execute(
        """insert into audit_chain (seq, audit_id, audit_at, row_hash, hash)
           select * from unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::bytea[], %s::bytea[])""",
        [
            [link.seq for link in links],
            [link.audit_id for link in links],
            [link.audit_at for link in links],
            [link.row_hash for link in links],
            [link.hash for link in links],
        ],
    )


async def set_seal(conn: Connection, seal: Seal) -> None:
    """Record the state of the chain."""
    await conn.execute(
        "update audit_seal set horizon = %s::xid8, seq = %s, hash = %s, at = now()",
        [seal.horizon, seal.seq, seal.hash],
    )


async def links(conn: Connection) -> AsyncGenerator[DictRow]:
    """Yield the whole chain with the text of each row, null when the row is missing. Call this in a transaction that
    sees one snapshot. `dropped` is true for a row of a day that retention has dropped."""
    async with conn.cursor("links") as cursor:
        cursor.itersize = 2000
        await cursor.execute(
            f"""select c.seq, c.audit_id, c.audit_at, c.row_hash, c.hash, {TEXT} as text, a.id is null as gone,
                       c.audit_at < (select max(dropped_before) from audit_anchors) as dropped
                from audit_chain c left join audit a on a.id = c.audit_id and a.at = c.audit_at
                order by c.seq"""
        )
        async for row in cursor:
            yield row


async def anchor(conn: Connection) -> tuple[int, bytes]:
    """The number and hash before the first kept link; 0 and zeros while no link was dropped."""
    cursor = await conn.execute("select seq, hash from audit_anchors order by seq desc limit 1")
    row = await cursor.fetchone()
    assert row is not None
    return row["seq"], bytes(row["hash"])


async def unchained_rows(conn: Connection, below: str) -> AsyncGenerator[int]:
    """Yield the ids of rows that have no link although their transaction is older than `below` or in the future. (If
    `below` itself is in the future, the database was restored and no row has been sealed since.)"""
    async with conn.cursor("unchained_rows") as cursor:
        await cursor.execute(
            f"""select a.id from audit a
                where (a.tx < %(below)s::xid8 or (a.tx >= {XMAX} and %(below)s::xid8 <= {XMAX})) and {NOT_LINKED}
                order by a.id""",
            {"below": below},
        )
        async for row in cursor:
            yield row["id"]


async def status(conn: Connection) -> DictRow:
    """The head of the chain, the time of its last link, and the number of unsealed rows."""
    cursor = await conn.execute(
        f"""select s.seq, encode(s.hash, 'hex') as hash, s.at,
                   (select count(*) from audit a where a.tx >= s.horizon and {NOT_LINKED}) as unsealed
            from audit_seal s"""
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def keep_partitions(conn: Connection, keep_days: int) -> list[str]:
    """Create the partitions of the coming days and drop the partitions older than `keep_days` (at least 30); return the
    names of the dropped partitions."""
    cursor = await conn.execute("select keep_audit_partitions(%s) as name", [keep_days])
    return [row["name"] for row in await cursor.fetchall()]
