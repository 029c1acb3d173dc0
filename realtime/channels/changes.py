"""Delivery of changes from the write-ahead log to the subscribers that may see them.

The rules are those of Supabase Realtime (WALRUS): privileges decide on columns; row-level security decides on rows, for
the subscriber's role and claims, on the row's present state; a deletion goes to all whose filters match, with only the
key where the table has row-level security. Each query to the database is made once for a batch of changes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from onsembl.realtime.channels.columns import TableColumns
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.serializer import Frame, SharedMessage
from onsembl.realtime.channels.subscribers import Identity, SubscriberGroup, Subscribers
from onsembl.realtime.channels.subscription import ChangeFilter, Subscription
from onsembl.realtime.replication.json_values import converts, json_text
from onsembl.realtime.replication.pgoutput import UNCHANGED, Change
from onsembl.sql import realtime_changes
from onsembl.sql.database import Connection, Pool

TOO_LARGE = "Error 413: Payload Too Large"
SMALL_VALUE_BYTES = 64
"""A row that is too large is pushed with its values up to this size."""
COLUMNS_SECONDS = 5.0
"""How long a table's columns and privileges are cached: the log does not show a change of privileges."""
CACHED = 10_000
"""How many filter results and how many JSON values are cached."""

Values = Mapping[str, str | None]
FilterCheck = tuple[str | None, str, ChangeFilter]
"""A value, its SQL type and the filter to check it with."""


@dataclass(frozen=True, slots=True, eq=False)
class CommittedChange:
    """A change with its transaction's number; None where all transactions see the change already."""

    change: Change
    committed_at: datetime
    xid: int | None


@dataclass(slots=True, eq=False)
class _Delivery:
    """One change for its subscribers. `new` lacks the values that the log omits."""

    change: Change
    committed_at: datetime
    groups: list[SubscriberGroup]
    tables: dict[str, TableColumns]
    """The table's columns, by role."""
    new: Values
    old: Values
    too_large: bool

    @property
    def filtered_values(self) -> Values:
        """The values that filters check."""
        return self.old if self.change.kind == "DELETE" else self.new


class ChangeDelivery:
    """Delivers changes. The pool's connections may `set role` to every subscriber's role."""

    def __init__(self, pool: Pool, subscribers: Subscribers, limits: RealtimeLimits) -> None:
        self._pool = pool
        self._subscribers = subscribers
        self._limits = limits
        self._columns: dict[tuple[int, str], tuple[float, TableColumns]] = {}
        self._json: dict[tuple[str, str], bytes] = {}
        self._matches: dict[FilterCheck, bool] = {}
        self.delivered = 0

    def clear_caches(self) -> None:
        """Forget tables and types: they may have changed."""
        self._columns.clear()
        self._json.clear()
        self._matches.clear()

    async def deliver(self, changes: Iterable[CommittedChange]) -> None:
        """Push the changes to their subscribers, in order. Raises psycopg.Error."""
        subscribed: list[tuple[CommittedChange, list[SubscriberGroup]]] = []
        for committed in changes:
            relation = committed.change.relation
            groups = self._subscribers.groups(committed.change.kind, relation.schema, relation.table)
            if groups:
                subscribed.append((committed, groups))
        if not subscribed:
            return
        async with self._pool.connection() as conn:
            deliveries = [await self._prepare(conn, committed, groups) for committed, groups in subscribed]
            await self._query_filters(conn, deliveries)
            await self._query_json(conn, deliveries)
            xids = {committed.xid for committed, _ in subscribed} - {None}
            visible = await self._query_visibility(conn, deliveries, [xid for xid in xids if xid is not None])
        for delivery in deliveries:
            self._dispatch(delivery, visible)

    # Queries

    async def _prepare(self, conn: Connection, committed: CommittedChange, groups: list[SubscriberGroup]) -> _Delivery:
        change = committed.change
        tables = {group.role: await self._table(conn, change.relation.oid, group.role) for group in groups}
        old = {name: value for name, value in (change.old or {}).items() if value is not UNCHANGED}
        new = {
            name: old[name] if value is UNCHANGED else value
            for name, value in (change.new or {}).items()
            if value is not UNCHANGED or name in old
        }
        if change.kind == "UPDATE" and not old:  # The log omits the key of an update that does not change it.
            old = {column.name: new[column.name] for column in change.relation.columns if column.in_identity}
        size = sum(len(value) for value in [*new.values(), *old.values()] if value is not None)
        too_large = size > self._limits.record_bytes
        return _Delivery(change, committed.committed_at, groups, tables, new, old, too_large)

    async def _table(self, conn: Connection, oid: int, role: str) -> TableColumns:
        now = time.monotonic()
        cached = self._columns.get((oid, role))
        if cached is None or cached[0] < now:
            rows = await realtime_changes.columns(conn, oid, role)
            cached = now + COLUMNS_SECONDS, TableColumns.from_catalog(rows)
            self._columns[(oid, role)] = cached
        return cached[1]

    async def _query_filters(self, conn: Connection, deliveries: Sequence[_Delivery]) -> None:
        """Let the database compare the values with the filters, as values of the columns' types."""
        if len(self._matches) > CACHED:
            self._matches.clear()
        checks: dict[FilterCheck, None] = {}
        for delivery in deliveries:
            for group in delivery.groups:
                for subscription in group.subscriptions:
                    for condition in subscription.filters:
                        check = self._filter_check(delivery, group.role, condition)
                        if check is not None and check not in self._matches:
                            checks[check] = None
        if checks:
            results = await realtime_changes.passing(
                conn, [(value, kind, f.operator, f.argument, f.negated) for value, kind, f in checks]
            )
            self._matches.update(zip(checks, results, strict=True))

    def _filter_check(self, delivery: _Delivery, role: str, condition: ChangeFilter) -> FilterCheck | None:
        column = delivery.tables[role].columns.get(condition.column)
        if column is None or condition.column not in delivery.filtered_values:
            return None
        return delivery.filtered_values[condition.column], column.sql_type, condition

    async def _query_json(self, conn: Connection, deliveries: Sequence[_Delivery]) -> None:
        """Let the database convert values to JSON whose types cannot be converted here."""
        if len(self._json) > CACHED:
            self._json.clear()
        wanted: dict[tuple[str, str], None] = {}
        for delivery in deliveries:
            for table in delivery.tables.values():
                for column in table.columns.values():
                    if not converts(column.type):
                        for values in (delivery.new, delivery.old):
                            value = values.get(column.name)
                            if value is not None and (value, column.sql_type) not in self._json:
                                wanted[(value, column.sql_type)] = None
        if wanted:
            texts = await realtime_changes.json_texts(conn, list(wanted))
            self._json.update(zip(wanted, (text.encode() for text in texts), strict=True))

    async def _query_visibility(
        self, conn: Connection, deliveries: Sequence[_Delivery], xids: Sequence[int]
    ) -> dict[tuple[_Delivery, Identity], bool]:
        """Which identities may see which rows, for tables whose row-level security applies to them."""
        by_table: defaultdict[tuple[int, frozenset[Identity]], list[_Delivery]] = defaultdict(list)
        for delivery in deliveries:
            if delivery.change.kind == "DELETE":
                continue
            identities = frozenset(
                group.identity
                for group in delivery.groups
                if delivery.tables[group.role].rls_applies and delivery.tables[group.role].error is None
            )
            if identities:
                by_table[(delivery.change.relation.oid, identities)].append(delivery)
        visible: dict[tuple[_Delivery, Identity], bool] = {}
        if by_table and xids:
            await realtime_changes.await_commits(conn, xids)
        for (oid, identities), of_table in by_table.items():
            ordered = sorted(identities)  # By role: to set the role costs more than to set the claims.
            columns = of_table[0].tables[ordered[0][0]].keys
            rows: dict[tuple[str | None, ...], list[_Delivery]] = {}
            for delivery in of_table:
                rows.setdefault(tuple(delivery.new.get(column.name) for column in columns), []).append(delivery)
            results = await realtime_changes.visible_rows(
                conn, oid, [c.name for c in columns], [c.sql_type for c in columns], list(rows), ordered
            )
            for identity, visible_rows in zip(ordered, results, strict=True):
                for index, same_row in enumerate(rows.values()):
                    for delivery in same_row:
                        visible[(delivery, identity)] = index in visible_rows
        return visible

    # Payloads

    def _dispatch(self, delivery: _Delivery, visible: Mapping[tuple[_Delivery, Identity], bool]) -> None:
        """Push one change to each subscriber that may see it. Equal payloads and frames are encoded once."""
        payloads: dict[tuple[str, tuple[str, ...] | None], orjson.Fragment] = {}
        frames: dict[tuple[str, tuple[int, ...], str, tuple[str, ...] | None], SharedMessage] = {}
        for group in delivery.groups:
            table = delivery.tables[group.role]
            only_error = delivery.change.kind != "DELETE" and table.error is not None
            if not only_error and not visible.get((delivery, group.identity), True):
                continue
            by_selection: defaultdict[tuple[str, ...] | None, list[int]] = defaultdict(list)
            for subscription in group.subscriptions:
                if only_error or self._matches_filters(delivery, group.role, subscription):
                    by_selection[subscription.selected].append(subscription.id)
            for selected, ids in by_selection.items():
                payload = payloads.get((group.role, selected))
                if payload is None:
                    payload = payloads[(group.role, selected)] = self._payload(delivery, table, selected)
                for member in group.members:
                    key = (member.topic, tuple(ids), group.role, selected)
                    shared = frames.get(key)
                    if shared is None:
                        frame = Frame(member.topic, "postgres_changes", {"ids": ids, "data": payload})
                        shared = frames[key] = SharedMessage(frame)
                    member.push_change(shared)
                self.delivered += len(group.members)

    def _matches_filters(self, delivery: _Delivery, role: str, subscription: Subscription) -> bool:
        for condition in subscription.filters:
            check = self._filter_check(delivery, role, condition)
            if check is None or not self._matches.get(check, False):
                return False
        return True

    def _payload(self, delivery: _Delivery, table: TableColumns, selected: tuple[str, ...] | None) -> orjson.Fragment:
        """The payload's `data` for one role and one selection of columns."""
        change = delivery.change
        at = delivery.committed_at
        data: dict[str, object] = {
            "schema": change.relation.schema,
            "table": change.relation.table,
            "commit_timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z",
            "type": change.kind,
        }
        if change.kind != "DELETE" and table.error is not None:
            return orjson.Fragment(orjson.dumps({**data, "columns": [], "record": {}, "errors": [table.error]}))
        columns = table.readable(selected)
        data["columns"] = [{"name": column.name, "type": column.type} for column in columns]
        names = [column.name for column in columns]
        if change.kind != "DELETE":
            data["record"] = self._record(delivery, table, names, delivery.new)
        if change.kind != "INSERT":
            if change.kind == "DELETE" and table.rls_enabled:  # Policies cannot be checked on a deleted row.
                names = [column.name for column in columns if column.is_key]
            data["old_record"] = self._record(delivery, table, names, delivery.old)
        data["errors"] = [TOO_LARGE] if delivery.too_large else None
        return orjson.Fragment(orjson.dumps(data))

    def _record(
        self, delivery: _Delivery, table: TableColumns, names: Sequence[str], values: Values
    ) -> dict[str, orjson.Fragment]:
        record: dict[str, orjson.Fragment] = {}
        for name in names:
            if name not in values:
                continue
            value, column = values[name], table.columns[name]
            convertible = value is None or converts(column.type)
            text = json_text(value, column.type) if convertible else self._json[(value or "", column.sql_type)]
            if not delivery.too_large or len(text) <= SMALL_VALUE_BYTES:
                record[name] = orjson.Fragment(text)
        return record
