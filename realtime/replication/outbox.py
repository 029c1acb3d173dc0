"""Changes without the write-ahead log: triggers write them to a table, the outbox, and NOTIFY announces them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal, cast

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import DictRow

from onsembl.realtime.replication.pgoutput import Begin, Change, Relation, RelationColumn, ReplicationMessage, Value
from onsembl.realtime.replication.record import parse_record
from onsembl.sql import realtime_outbox
from onsembl.sql.database import Connection, connect

UPKEEP_SECONDS = 60.0
"""How often old changes are deleted, and newly published tables get their triggers."""


async def stream_outbox(url: str, publication: str) -> AsyncGenerator[list[ReplicationMessage]]:
    """Changes from now on, in batches as of `stream_wal`. The first batch is empty; no change after it is missed.

    Ends with psycopg.Error.
    """
    conn = await connect(url)
    try:
        published = await realtime_outbox.install(conn, publication)
        await conn.commit()
        await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await conn.execute(f"listen {realtime_outbox.CHANNEL}")
        await conn.commit()
        seen = await realtime_outbox.snapshot(conn)
        await conn.commit()
        due = time.monotonic() + UPKEEP_SECONDS
        described: dict[int, Relation] = {}
        """Each table as the last message described it."""
        yield []
        while True:
            await _wait(conn, max(0.0, due - time.monotonic()))
            now = await realtime_outbox.snapshot(conn)
            rows = await realtime_outbox.new_since(conn, seen, published)
            await conn.commit()
            seen = now
            if rows:
                present = {oid: await _relation(conn, oid) for oid in {row["relation"] for row in rows}}
                await conn.commit()
                yield _messages(rows, present, described)
            if time.monotonic() >= due:
                published = await realtime_outbox.install(conn, publication)
                await realtime_outbox.delete_old(conn)
                await conn.commit()
                due = time.monotonic() + UPKEEP_SECONDS
    finally:
        await conn.close()


async def _wait(conn: Connection, seconds: float) -> None:
    """Wait for a notification, at most `seconds`."""
    async with aclosing(conn.notifies(timeout=seconds, stop_after=1)) as notifications:
        async for _ in notifications:
            return


async def _relation(conn: Connection, oid: int) -> Relation:
    rows = await realtime_outbox.relation(conn, oid)
    if not rows:
        raise psycopg.OperationalError("a table was dropped after its change was written")
    columns = tuple(RelationColumn(row["name"], row["type_oid"], row["in_identity"]) for row in rows)
    return Relation(oid, rows[0]["schema"], rows[0]["table"], rows[0]["identity"], columns)


def _messages(
    rows: list[DictRow], present: dict[int, Relation], described: dict[int, Relation]
) -> list[ReplicationMessage]:
    """The messages of the changes. As in the log, a table is described before its first change and after an alteration,
    and each change has its columns as of its transaction."""
    messages: list[ReplicationMessage] = []
    for row in rows:
        relation = _as_written(present[row["relation"]], row["columns"])
        if described.get(relation.oid) != relation:
            described[relation.oid] = relation
            messages.append(relation)
        messages.append(Begin(0, row["at"], None))
        messages.append(_change(row, relation))
    return messages


def _as_written(present: Relation, columns: list[tuple[str, int, bool]] | None) -> Relation:
    if columns is None:
        return present
    return replace(present, columns=tuple(RelationColumn(*column) for column in columns))


def _change(row: dict[str, Any], relation: Relation) -> Change:
    """The change as the log has it: with those columns of the old row that the replica identity includes."""
    kind = cast(Literal["INSERT", "UPDATE", "DELETE"], row["kind"])
    new = _row(row["new"], relation)
    old = _row(row["old"], relation)
    if old is not None:
        old = {column.name: old[column.name] for column in relation.columns if column.in_identity}
        if kind == "UPDATE" and relation.identity != "f" and new is not None and old.items() <= new.items():
            old = None
    return Change(kind, relation, new, old)


def _row(text: str | None, relation: Relation) -> dict[str, Value] | None:
    if text is None:
        return None
    values = parse_record(text)
    if len(values) != len(relation.columns):
        raise psycopg.OperationalError(f"{relation.table} was altered after the change was written")
    return dict(zip((column.name for column in relation.columns), values, strict=True))
