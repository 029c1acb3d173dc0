"""Changes without the write-ahead log: triggers write them to a table, the outbox, and NOTIFY announces them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
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
        yield []
        while True:
            await _wait(conn, max(0.0, due - time.monotonic()))
            now = await realtime_outbox.snapshot(conn)
            rows = await realtime_outbox.new_since(conn, seen, published)
            await conn.commit()
            seen = now
            if rows:
                relations = {oid: await _relation(conn, oid) for oid in {row["relation"] for row in rows}}
                await conn.commit()
                yield _messages(rows, relations)
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


def _messages(rows: list[DictRow], relations: dict[int, Relation]) -> list[ReplicationMessage]:
    messages: list[ReplicationMessage] = []
    for row in rows:
        messages.append(Begin(0, row["at"], None))
        messages.append(_change(row, relations[row["relation"]]))
    return messages


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
