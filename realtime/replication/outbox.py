"""Changes where the log cannot be followed: triggers write them to a table, and NOTIFY says that there are some."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal, cast

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import DictRow

from onsembl.realtime.replication.pgoutput import Begin, Change, Column, Message, Relation, Value
from onsembl.realtime.replication.record import parse_record
from onsembl.sql import realtime_outbox as outbox
from onsembl.sql.database import Connection, connect

UPKEEP_SECONDS = 60.0
"""How often old changes are deleted, and tables that were published since get their triggers."""


async def stream_outbox(url: str, publication: str) -> AsyncGenerator[list[Message]]:
    """Changes from now on, as `stream` gives them. The first batch is empty: nothing is missed from here on.

    Ends with psycopg.Error.
    """
    conn = await connect(url)
    try:
        published = await outbox.install(conn, publication)
        await conn.commit()
        await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await conn.execute(f"listen {outbox.CHANNEL}")
        await conn.commit()
        seen = await outbox.snapshot(conn)
        await conn.commit()
        due = time.monotonic() + UPKEEP_SECONDS
        yield []
        while True:
            await _wait(conn, max(0.0, due - time.monotonic()))
            now = await outbox.snapshot(conn)
            rows = await outbox.new_since(conn, seen, published)
            await conn.commit()
            seen = now
            if rows:
                relations = {oid: await _relation(conn, oid) for oid in {row["relation"] for row in rows}}
                await conn.commit()
                yield _messages(rows, relations)
            if time.monotonic() >= due:
                published = await outbox.install(conn, publication)
                await outbox.delete_old(conn)
                await conn.commit()
                due = time.monotonic() + UPKEEP_SECONDS
    finally:
        await conn.close()


async def _wait(conn: Connection, seconds: float) -> None:
    """For a notification, or so long."""
    async with aclosing(conn.notifies(timeout=seconds, stop_after=1)) as notifications:
        async for _ in notifications:
            return


async def _relation(conn: Connection, oid: int) -> Relation:
    rows = await outbox.relation(conn, oid)
    if not rows:
        raise psycopg.OperationalError("a table was dropped since its change was written")
    columns = tuple(Column(row["name"], row["type_oid"], row["in_identity"]) for row in rows)
    return Relation(oid, rows[0]["schema"], rows[0]["table"], rows[0]["identity"], columns)


def _messages(rows: list[DictRow], relations: dict[int, Relation]) -> list[Message]:
    messages: list[Message] = []
    for row in rows:
        messages.append(Begin(0, row["at"], None))
        messages.append(_change(row, relations[row["relation"]]))
    return messages


def _change(row: dict[str, Any], relation: Relation) -> Change:
    """The change as the log would tell it: of the old row, what the replica identity keeps."""
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
        raise psycopg.OperationalError(f"{relation.table} was altered since the change was written")
    return dict(zip((column.name for column in relation.columns), values, strict=True))
