"""Delivery of changes from the write-ahead log to the subscribers that may see them.

The rules are those of Supabase Realtime (WALRUS): privileges decide on columns; row-level security decides on rows, for
the subscriber's role and claims, on the row's present state; a deletion goes to all whose filters match, with only the
key where the table has row-level security, except to those whom the policies let see no row whatever it holds. A role
that may read no column is not told of a change. Each query to the database is made once for a batch of changes; filters
are evaluated apart (filters.py).
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import orjson

from onsembl.realtime.channels.columns import ColumnType, TableColumns
from onsembl.realtime.channels.filters import FilterCheck, FilterFeeds
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.serializer import Frame, SharedMessage
from onsembl.realtime.channels.subscribers import Identity, SubscriberGroup, Subscribers
from onsembl.realtime.channels.subscription import ChangeFilter, Subscription
from onsembl.realtime.replication.json_values import converts, json_text
from onsembl.realtime.replication.pgoutput import UNCHANGED, Change
from onsembl.sql import realtime_changes
from onsembl.sql.database import Connection, Pool

logger = logging.getLogger(__name__)

TOO_LARGE = "Error 413: Payload Too Large"
NOT_JSON = "Error 500: The row is not JSON"
SMALL_VALUE_BYTES = 64
"""A row that is too large is pushed with its values up to this size."""
COLUMNS_SECONDS = 5.0
"""How long a table's columns and privileges are cached: the log does not show a change of privileges."""
CACHED = 10_000
"""How many JSON values are cached."""
TEXT = ColumnType("text", "text")
"""The type of a value whose type has been dropped since."""

Values = Mapping[str, str | None]


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
    types: dict[str, ColumnType]
    """The types of the columns in the change's transaction, by name."""
    new: Values
    old: Values
    too_large: bool

    @property
    def has_keys(self) -> bool:
        """Whether the row can be found by its primary key: the table has one, and its columns are still called so."""
        keys = next(iter(self.tables.values())).keys
        return bool(keys) and all(key.name in self.new for key in keys)

    @property
    def filtered_values(self) -> Values:
        """The values that filters check."""
        return self.old if self.change.kind == "DELETE" else self.new


class ChangeDelivery:
    """Delivers changes. The pool's connections may `set role` to every subscriber's role."""

    def __init__(self, pool: Pool, subscribers: Subscribers, limits: RealtimeLimits, filters: FilterFeeds) -> None:
        self._pool = pool
        self._subscribers = subscribers
        self._limits = limits
        self._filters = filters
        self._columns: dict[tuple[int, str], tuple[float, TableColumns]] = {}
        self._types: dict[int, ColumnType] = {}
        self._may_see: dict[tuple[int, Identity], tuple[float, bool]] = {}
        self._json: dict[tuple[str, str], bytes] = {}
        self.delivered = 0

    def clear_caches(self) -> None:
        """Forget tables and types: they may have changed."""
        self._columns.clear()
        self._types.clear()
        self._may_see.clear()
        self._json.clear()
        self._filters.clear_cache()

    def forget_policies(self) -> None:
        """Forget whom policies may let see rows: an account has changed."""
        self._may_see.clear()

    async def check_connections(self) -> None:
        """Replace connections that are broken: after a restart of Postgres, they are."""
        await self._pool.check()

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
            # The log tells of a commit a moment before the catalog, and the rows, show it.
            if xids := {committed.xid for committed, _ in subscribed if committed.xid is not None}:
                await realtime_changes.await_commits(conn, sorted(xids))
            deliveries = [await self._prepare(conn, committed, groups) for committed, groups in subscribed]
            await self._query_json(conn, deliveries)
            visible = await self._query_visibility(conn, deliveries)
        for delivery in deliveries:
            self._dispatch(delivery, visible)

    # Queries

    async def _prepare(self, conn: Connection, committed: CommittedChange, groups: list[SubscriberGroup]) -> _Delivery:
        change = committed.change
        tables = {group.role: await self._table(conn, change.relation.oid, group.role) for group in groups}
        await self._query_types(conn, change, tables)
        old = {name: value for name, value in (change.old or {}).items() if value is not UNCHANGED}
        new = {
            name: old[name] if value is UNCHANGED else value
            for name, value in (change.new or {}).items()
            if value is not UNCHANGED or name in old
        }
        if change.kind == "UPDATE" and not old:  # The log omits the key of an update that does not change it.
            old = {column.name: new[column.name] for column in change.relation.columns if column.in_identity}
        catalog = next(iter(tables.values())).columns
        if new and any(column.is_generated and name not in new for name, column in catalog.items()):
            # Before version 18, Postgres leaves stored generated columns out of the log.
            new |= await realtime_changes.generated_values(conn, change.relation.oid, new)
        size = sum(len(value.encode()) for value in [*new.values(), *old.values()] if value is not None)
        too_large = size > self._limits.record_bytes
        types = {name: self._types.get(column.type_oid, TEXT) for name, column in catalog.items()}
        types |= {column.name: self._types.get(column.type_oid, TEXT) for column in change.relation.columns}
        return _Delivery(change, committed.committed_at, groups, tables, types, new, old, too_large)

    async def _table(self, conn: Connection, oid: int, role: str) -> TableColumns:
        now = time.monotonic()
        cached = self._columns.get((oid, role))
        if cached is None or cached[0] < now:
            rows = await realtime_changes.columns(conn, oid, role)
            cached = now + COLUMNS_SECONDS, TableColumns.from_catalog(rows)
            self._columns[(oid, role)] = cached
        return cached[1]

    async def _query_types(self, conn: Connection, change: Change, tables: Mapping[str, TableColumns]) -> None:
        """Look up the types of the columns: as they were in the change's transaction, and as they are now."""
        oids = {column.type_oid for column in change.relation.columns}
        oids |= {column.type_oid for table in tables.values() for column in table.columns.values()}
        if missing := oids - self._types.keys():
            rows = await realtime_changes.types(conn, sorted(missing))
            self._types |= dict.fromkeys(missing, TEXT) | {
                row["oid"]: ColumnType(row["name"], row["sql_type"]) for row in rows
            }

    def _filter_check(self, delivery: _Delivery, role: str, condition: ChangeFilter) -> FilterCheck | None:
        column = delivery.tables[role].columns.get(condition.column)
        if column is None or not column.is_readable or condition.column not in delivery.filtered_values:
            return None
        return delivery.filtered_values[condition.column], delivery.types[condition.column].sql, condition

    async def _query_json(self, conn: Connection, deliveries: Sequence[_Delivery]) -> None:
        """Let the database convert values to JSON whose types cannot be converted here."""
        if len(self._json) > CACHED:
            self._json.clear()
        wanted: dict[tuple[str, str], None] = {}
        for delivery in deliveries:
            for name, kind in delivery.types.items():
                if not converts(kind.name):
                    for values in (delivery.new, delivery.old):
                        value = values.get(name)
                        if value is not None and (value, kind.sql) not in self._json:
                            wanted[(value, kind.sql)] = None
        if wanted:
            texts = await realtime_changes.json_texts(conn, list(wanted))
            self._json.update(zip(wanted, (text.encode() for text in texts), strict=True))

    async def _query_visibility(
        self, conn: Connection, deliveries: Sequence[_Delivery]
    ) -> dict[tuple[_Delivery, Identity], bool]:
        """Which identities may see which rows, for tables whose row-level security applies to them."""
        by_table: defaultdict[tuple[int, frozenset[Identity]], list[_Delivery]] = defaultdict(list)
        visible: dict[tuple[_Delivery, Identity], bool] = {}
        for delivery in deliveries:
            guarded = [group for group in delivery.groups if delivery.tables[group.role].rls_applies]
            by_row = delivery.change.kind != "DELETE" and delivery.has_keys
            identities = frozenset(g.identity for g in guarded if by_row and delivery.tables[g.role].error is None)
            if identities:
                by_table[(delivery.change.relation.oid, identities)].append(delivery)
            if others := {group.identity for group in guarded} - identities:  # Their row cannot be looked up.
                possible = await self._query_policies(conn, delivery.change.relation.oid, others)
                visible.update({(delivery, identity): possible[identity] for identity in others})
        for (oid, identities), of_table in by_table.items():
            ordered = sorted(identities)  # By role: to set the role costs more than to set the claims.
            columns = of_table[0].tables[ordered[0][0]].keys
            types = [self._types[column.type_oid].sql for column in columns]
            rows: dict[tuple[str | None, ...], list[_Delivery]] = {}
            for delivery in of_table:
                rows.setdefault(tuple(delivery.new.get(column.name) for column in columns), []).append(delivery)
            results = await realtime_changes.visible_rows(
                conn, oid, [column.name for column in columns], types, list(rows), ordered
            )
            for identity, visible_rows in zip(ordered, results, strict=True):
                for index, same_row in enumerate(rows.values()):
                    for delivery in same_row:
                        visible[(delivery, identity)] = index in visible_rows
        return visible

    async def _query_policies(self, conn: Connection, oid: int, identities: Iterable[Identity]) -> dict[Identity, bool]:
        """Which identities the policies of a table may let see a row of it."""
        now = time.monotonic()
        answers = {
            identity: cached[1]
            for identity in identities
            if (cached := self._may_see.get((oid, identity))) is not None and cached[0] >= now
        }
        if missing := sorted(set(identities) - answers.keys()):
            if len(self._may_see) > CACHED:
                self._may_see.clear()
            for identity, possible in zip(missing, await realtime_changes.may_see(conn, oid, missing), strict=True):
                answers[identity] = possible
                self._may_see[(oid, identity)] = now + COLUMNS_SECONDS, possible
        return answers

    # Payloads

    def _dispatch(self, delivery: _Delivery, visible: Mapping[tuple[_Delivery, Identity], bool]) -> None:
        """Push one change to each subscriber that may see it. Equal payloads and frames are encoded once."""
        payloads: dict[tuple[str, tuple[str, ...] | None], bytes] = {}
        frames: dict[tuple[str, tuple[int, ...], str, tuple[str, ...] | None], SharedMessage] = {}

        def push(group: SubscriberGroup, subscriptions: Sequence[Subscription]) -> None:
            by_selection: defaultdict[tuple[str, ...] | None, list[int]] = defaultdict(list)
            for subscription in subscriptions:
                by_selection[subscription.selected].append(subscription.id)
            for selected, ids in by_selection.items():
                for member in group.members:
                    key = (member.topic, tuple(ids), group.role, selected)
                    shared = frames.get(key)
                    if shared is None:
                        payload = {"ids": ids, "data": orjson.Fragment(payloads[(group.role, selected)])}
                        shared = frames[key] = SharedMessage(Frame(member.topic, "postgres_changes", payload))
                    member.push_change(shared)
                self.delivered += len(group.members)

        for group in delivery.groups:
            table = delivery.tables[group.role]
            if table.is_hidden or not visible.get((delivery, group.identity), True):
                continue
            for selected in {subscription.selected for subscription in group.subscriptions}:
                if (group.role, selected) not in payloads:
                    payloads[(group.role, selected)] = self._payload(delivery, table, selected)
            only_error = delivery.change.kind != "DELETE" and table.error is not None
            if group.payer is None or only_error:
                push(group, group.subscriptions)
                continue
            checks = {
                subscription: [self._filter_check(delivery, group.role, one) for one in subscription.filters]
                for subscription in group.subscriptions
            }
            size = sum(len(payloads[(group.role, s.selected)]) for s in group.subscriptions)
            self._filters.put(group.payer, checks, partial(push, group), size)

    def _payload(self, delivery: _Delivery, table: TableColumns, selected: tuple[str, ...] | None) -> bytes:
        """The payload's `data` for one role and one selection of columns, as JSON."""
        change = delivery.change
        at = delivery.committed_at
        data: dict[str, object] = {
            "schema": change.relation.schema,
            "table": change.relation.table,
            "commit_timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z",
            "type": change.kind,
        }
        nothing: dict[str, object] = {"columns": [], "record": {}}
        if change.kind != "DELETE" and table.error is not None:
            return orjson.dumps({**data, **nothing, "errors": [table.error]})
        columns = table.readable(selected, change.relation)
        names = [column.name for column in columns]
        whole = {**data, "columns": [{"name": name, "type": delivery.types[name].name} for name in names]}
        if change.kind != "DELETE":
            whole["record"] = self._record(delivery, names, delivery.new)
        if change.kind != "INSERT":
            if change.kind == "DELETE" and table.rls_enabled:  # Policies cannot be checked on a deleted row.
                names = [column.name for column in columns if column.is_key]
            whole["old_record"] = self._record(delivery, names, delivery.old)
        whole["errors"] = [TOO_LARGE] if delivery.too_large else None
        text = orjson.dumps(whole)
        if not _is_json(text):
            logger.error("A change is not JSON: %s", text[:1000], extra={"action": "realtime_not_json"})
            text = orjson.dumps({**data, **nothing, "errors": [NOT_JSON]})
        return text

    def _record(self, delivery: _Delivery, names: Sequence[str], values: Values) -> dict[str, orjson.Fragment]:
        record: dict[str, orjson.Fragment] = {}
        for name in names:
            if name not in values:
                continue
            value, kind = values[name], delivery.types[name]
            convertible = value is None or converts(kind.name)
            text = json_text(value, kind.name) if convertible else self._json[(value or "", kind.sql)]
            if not delivery.too_large or len(text) <= SMALL_VALUE_BYTES:
                record[name] = orjson.Fragment(text)
        return record


def _is_json(text: bytes) -> bool:
    """Whether the text is JSON. A number may have more digits than the fast parser takes."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            json.loads(text, parse_int=str, parse_float=str)
        except ValueError:
            return False
    return True
