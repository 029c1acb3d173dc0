"""From a change in the log to the subscribers who may see it.

Rules are those of Supabase Realtime: columns by privilege, rows by row-level security as the subscriber's role with
its claims, deletions to all whose filters pass with no more than the key.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import psycopg
from psycopg.rows import DictRow

from onsembl.realtime.channels.subscription import Filter, Subscription
from onsembl.realtime.replication.json_values import json_value
from onsembl.realtime.replication.pgoutput import UNCHANGED, Change, Value
from onsembl.sql import realtime_changes as queries
from onsembl.sql.database import Connection, Pool

logger = logging.getLogger(__name__)

NO_PRIMARY_KEY = "Error 400: Bad Request, no primary key"
UNAUTHORIZED = "Error 401: Unauthorized"


class Subscriber(Protocol):
    """A channel that follows changes, as this module sees it."""

    role: str
    claims: str
    """As JSON, for `request.jwt.claims`."""
    subscriptions: tuple[Subscription, ...]

    def deliver(self, ids: list[int], data: dict[str, Any]) -> None:
        """Send a change; never waits."""
        ...


@dataclass(frozen=True, slots=True)
class _Columns:
    """A table's columns as one role sees them."""

    rows: list[DictRow]

    @property
    def keys(self) -> list[str]:
        return [row["name"] for row in self.rows if row["key"]]

    @property
    def secured(self) -> bool:
        """Whether each row has to be checked for the role."""
        return any(row["row_security"] and not row["bypass"] for row in self.rows)

    @property
    def readable(self) -> list[DictRow]:
        return [row for row in self.rows if row["readable"]]

    def error(self) -> str | None:
        if not self.keys:
            return NO_PRIMARY_KEY
        if any(row["key"] and not row["readable"] for row in self.rows):
            return UNAUTHORIZED
        return None


class ChangeDelivery:
    """Finds who gets a change. The pool's connections may act as every subscriber's role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._columns: dict[tuple[int, str], _Columns] = {}

    def forget_columns(self) -> None:
        """Privileges or tables may have changed."""
        self._columns.clear()

    async def deliver(self, change: Change, committed_at: datetime, subscribers: Iterable[Subscriber]) -> None:
        """Hand the change to those it concerns. Raises psycopg.Error."""
        relation = change.relation
        concerned: list[tuple[Subscriber, list[Subscription]]] = []
        for subscriber in subscribers:
            wanted = [s for s in subscriber.subscriptions if s.wants(change.kind, relation.schema, relation.table)]
            if wanted:
                concerned.append((subscriber, wanted))
        if not concerned:
            return
        async with self._pool.connection() as conn:
            await self._deliver(conn, change, committed_at, concerned)

    async def _deliver(
        self,
        conn: Connection,
        change: Change,
        committed_at: datetime,
        concerned: list[tuple[Subscriber, list[Subscription]]],
    ) -> None:
        by_role = {s.role: await self._columns_for(conn, change, s.role) for s, _ in concerned}
        any_columns = next(iter(by_role.values()))
        new, old = await self._whole(conn, change, any_columns)
        visible = await self._visible(conn, change, new, by_role, [s for s, _ in concerned])
        data = {role: _data(change, committed_at, columns, new, old) for role, columns in by_role.items()}
        passed: dict[Filter, bool] = {}
        for subscriber, wanted in concerned:
            if not visible[(subscriber.role, subscriber.claims)]:
                continue
            ids = [s.id for s in wanted if await self._passes(conn, s, new or old, any_columns, passed)]
            if ids:
                subscriber.deliver(ids, data[subscriber.role])

    async def _columns_for(self, conn: Connection, change: Change, role: str) -> _Columns:
        key = (change.relation.oid, role)
        if key not in self._columns:
            self._columns[key] = _Columns(await queries.columns(conn, change.relation.oid, role))
        return self._columns[key]

    async def _whole(
        self, conn: Connection, change: Change, columns: _Columns
    ) -> tuple[dict[str, str | None], dict[str, str | None]]:
        """New and old values, with those filled in that the log does not repeat."""
        old = {name: value for name, value in (change.old or {}).items() if value is not UNCHANGED}
        new = dict[str, Value](change.new or {})
        missing = [name for name, value in new.items() if value is UNCHANGED and name not in old]
        known = {name: value for name, value in new.items() if value is not UNCHANGED}
        whole = {name: old.get(name) if value is UNCHANGED else value for name, value in new.items()}
        keys = {name: known[name] or "" for name in columns.keys if name in known}
        if missing and keys:
            whole |= await queries.current_values(conn, change.relation.schema, change.relation.table, missing, keys)
        return whole, old

    async def _visible(
        self,
        conn: Connection,
        change: Change,
        new: dict[str, str | None],
        by_role: dict[str, _Columns],
        subscribers: list[Subscriber],
    ) -> dict[tuple[str, str], bool]:
        identities = {(s.role, s.claims) for s in subscribers}
        if change.kind == "DELETE":
            return dict.fromkeys(identities, True)
        checked = [i for i in identities if by_role[i[0]].secured and by_role[i[0]].error() is None]
        visible = dict.fromkeys(identities, True)
        if checked:
            keys = {name: new[name] or "" for name in by_role[checked[0][0]].keys}
            roles, claims = zip(*checked, strict=True)
            answers = await queries.visible_to(conn, change.relation.oid, keys, roles, claims)
            visible |= dict(zip(checked, answers, strict=True))
        return visible

    async def _passes(
        self,
        conn: Connection,
        subscription: Subscription,
        values: dict[str, str | None],
        columns: _Columns,
        passed: dict[Filter, bool],
    ) -> bool:
        types = {row["name"]: row["sql_type"] for row in columns.rows}
        for condition in subscription.filters:
            if condition not in passed:
                passed[condition] = await self._holds(conn, condition, values, types)
            if not passed[condition]:
                return False
        return True

    async def _holds(
        self, conn: Connection, condition: Filter, values: dict[str, str | None], types: dict[str, str]
    ) -> bool:
        if condition.column not in values or condition.column not in types:
            return False
        try:
            async with conn.transaction():
                holds = await queries.passes(
                    conn,
                    values[condition.column],
                    types[condition.column],
                    condition.operator,
                    condition.argument,
                )
        except psycopg.DataError as error:
            logger.info("A filter does not fit its column: %s", error, extra={"action": "filter_failed"})
            return False
        return holds != condition.negated


def _data(
    change: Change,
    committed_at: datetime,
    columns: _Columns,
    new: dict[str, str | None],
    old: dict[str, str | None],
) -> dict[str, Any]:
    """The payload's `data`, as one role may see it."""
    relation = change.relation
    data: dict[str, Any] = {
        "schema": relation.schema,
        "table": relation.table,
        "commit_timestamp": committed_at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{committed_at.microsecond // 1000:03}Z",
        "type": change.kind,
    }
    error = columns.error()
    if error is not None and change.kind != "DELETE":
        return {**data, "columns": [], "record": {}, "errors": [error]}
    readable = columns.readable
    data["columns"] = [{"name": row["name"], "type": row["type"]} for row in readable]
    types = {row["name"]: row["type"] for row in readable}
    if change.kind != "DELETE":
        data["record"] = {name: json_value(value, types[name]) for name, value in new.items() if name in types}
    if change.kind != "INSERT":
        # The key by default, which the log leaves out of an update that keeps it; all of it with identity full.
        kept = old or {name: new[name] for name in columns.keys if name in new}
        if change.kind == "DELETE" and columns.secured:
            kept = {name: value for name, value in kept.items() if name in columns.keys}
        data["old_record"] = {name: json_value(value, types[name]) for name, value in kept.items() if name in types}
    data["errors"] = None
    return data
