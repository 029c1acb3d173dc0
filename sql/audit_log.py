"""Reads the audit log: one page, or all rows, that match a filter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.sql.database import Connection, allow_pauses

COLUMNS = (
    "id",
    "at",
    "actor_kind",
    "actor_id",
    "actor_name",
    "action",
    "target_kind",
    "target_id",
    "address",
    "outcome",
    "detail",
)
_SELECT = f"select {', '.join(COLUMNS)} from audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """A filter; a field that is None matches every row.

    `actor` is a part of the actor's name, or the actor's id. `action` is an action, or a prefix of actions that ends in
    a full stop (`agent.`). `text` is a part of the actor's name, the target, the address or the detail.
    """

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: Literal["ok", "refused", "failed"] | None = None
    address: str | None = None
    text: str | None = None

    def where(self) -> tuple[str, Mapping[str, object]]:
        """The SQL condition, and its parameters."""
        conditions = {
            "since": (self.since, "at >= %(since)s"),
            "until": (self.until, "at < %(until)s"),
            "actor_id": (_uuid(self.actor), "actor_id = %(actor_id)s"),
            "actor": (_pattern(self.actor) if _uuid(self.actor) is None else None, "actor_name ilike %(actor)s"),
            "action": (self.action, _action(self.action)),
            "target": (self.target, "target_id = %(target)s"),
            "outcome": (self.outcome, "outcome = %(outcome)s"),
            "address": (self.address, "address = %(address)s"),
            "text": (
                _pattern(self.text),
                "(actor_name ilike %(text)s or target_id ilike %(text)s or address ilike %(text)s"
                " or detail::text ilike %(text)s)",
            ),
        }
        wanted = {name: value for name, (value, _) in conditions.items() if value is not None}
        clauses = [clause for value, clause in conditions.values() if value is not None]
        return " and ".join(["true", *clauses]), wanted


def _action(action: str | None) -> str:
    return "starts_with(action, %(action)s)" if action is not None and action.endswith(".") else "action = %(action)s"


def _pattern(part: str | None) -> str | None:
    if part is None:
        return None
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        return None


async def page(conn: Connection, wanted: EventFilter, before: int | None, limit: int) -> list[DictRow]:
    """A page of events, newest first; `before` is the id of the last event of the previous page."""
    where, values = wanted.where()
    if before is not None:
        where += " and id < %(before)s"
    cursor = await conn.execute(
        f"{_SELECT} where {where} order by id desc limit %(limit)s".encode(),
        {**values, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def all_rows(conn: Connection, wanted: EventFilter) -> AsyncGenerator[DictRow]:
    """Yield all matching events, oldest first, in one transaction."""
    where, values = wanted.where()
    await allow_pauses(conn)
    async with conn.cursor("audit_export") as cursor:
        cursor.itersize = 1000
        await cursor.execute(f"{_SELECT} where {where} order by at, id".encode(), values)
        async for row in cursor:
            yield row
