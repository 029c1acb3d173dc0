"""From changes in the log to the subscribers who may see them.

Rules are those of Supabase Realtime: columns by privilege; rows by row-level security as the subscriber's role with
its claims, as they are now; deletions to all whose filters pass, with no more than the key where rows are secured.
Everything that the database has to be asked is asked once for a batch of changes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from onsembl.realtime.channels.columns import TableColumns
from onsembl.realtime.channels.followers import Followers, Group, Identity
from onsembl.realtime.channels.limits import Limits
from onsembl.realtime.channels.serializer import Frame
from onsembl.realtime.channels.shared import Shared
from onsembl.realtime.channels.subscription import Filter, Subscription
from onsembl.realtime.replication.json_values import json_text, knows
from onsembl.realtime.replication.pgoutput import UNCHANGED, Change
from onsembl.sql import realtime_changes as queries
from onsembl.sql.database import Connection, Pool

TOO_LARGE = "Error 413: Payload Too Large"
SMALL_VALUE_BYTES = 64
"""Of a row that is too large, values up to this size are told."""
COLUMNS_SECONDS = 5.0
"""How long what the catalog says of a table is taken for true: privileges change without a word in the log."""
REMEMBERED = 10_000

Values = Mapping[str, str | None]


@dataclass(frozen=True, slots=True, eq=False)
class CommittedChange:
    """A change, and the transaction that made it (None where others are known to see it)."""

    change: Change
    committed_at: datetime
    xid: int | None


@dataclass(slots=True, eq=False)
class _Delivery:
    """One change on its way. `new` lacks what the log leaves out."""

    change: Change
    committed_at: datetime
    groups: list[Group]
    tables: dict[str, TableColumns]
    """By role."""
    new: Values
    old: Values
    too_large: bool

    @property
    def values(self) -> Values:
        """What filters look at."""
        return self.old if self.change.kind == "DELETE" else self.new


class ChangeDelivery:
    """Finds who gets a change. The pool's connections may act as every subscriber's role."""

    def __init__(self, pool: Pool, followers: Followers, limits: Limits) -> None:
        self._pool = pool
        self._followers = followers
        self._limits = limits
        self._columns: dict[tuple[int, str], tuple[float, TableColumns]] = {}
        self._json: dict[tuple[str, str], bytes] = {}
        self._passed: dict[tuple[str | None, str, Filter], bool] = {}
        self.delivered = 0

    def forget(self) -> None:
        """Tables may have changed."""
        self._columns.clear()
        self._json.clear()
        self._passed.clear()

    async def deliver(self, changes: Iterable[CommittedChange]) -> None:
        """Hand the changes to those they concern, in order. Raises psycopg.Error."""
        concerned: list[tuple[CommittedChange, list[Group]]] = []
        for committed in changes:
            relation = committed.change.relation
            groups = self._followers.of(committed.change.kind, relation.schema, relation.table)
            if groups:
                concerned.append((committed, groups))
        if not concerned:
            return
        async with self._pool.connection() as conn:
            deliveries = [await self._prepare(conn, committed, groups) for committed, groups in concerned]
            await self._ask_filters(conn, deliveries)
            await self._ask_json(conn, deliveries)
            xids = {committed.xid for committed, _ in concerned} - {None}
            visible = await self._ask_visibility(conn, deliveries, [xid for xid in xids if xid is not None])
        for delivery in deliveries:
            self._hand_out(delivery, visible)

    # Asking

    async def _prepare(self, conn: Connection, committed: CommittedChange, groups: list[Group]) -> _Delivery:
        change = committed.change
        tables = {group.role: await self._table(conn, change.relation.oid, group.role) for group in groups}
        old = {name: value for name, value in (change.old or {}).items() if value is not UNCHANGED}
        new = {
            name: old[name] if value is UNCHANGED else value
            for name, value in (change.new or {}).items()
            if value is not UNCHANGED or name in old
        }
        if change.kind == "UPDATE" and not old:  # the log leaves the key out when it stays the same
            old = {column.name: new[column.name] for column in change.relation.columns if column.in_identity}
        size = sum(len(value) for value in [*new.values(), *old.values()] if value is not None)
        too_large = size > self._limits.record_bytes
        return _Delivery(change, committed.committed_at, groups, tables, new, old, too_large)

    async def _table(self, conn: Connection, oid: int, role: str) -> TableColumns:
        now = time.monotonic()
        known = self._columns.get((oid, role))
        if known is None or known[0] < now:
            known = now + COLUMNS_SECONDS, TableColumns.of(await queries.columns(conn, oid, role))
            self._columns[(oid, role)] = known
        return known[1]

    async def _ask_filters(self, conn: Connection, deliveries: Sequence[_Delivery]) -> None:
        if len(self._passed) > REMEMBERED:
            self._passed.clear()
        asked: dict[tuple[str | None, str, Filter], None] = {}
        for delivery in deliveries:
            for group in delivery.groups:
                for subscription in group.subscriptions:
                    for condition in subscription.filters:
                        question = self._question(delivery, group.role, condition)
                        if question is not None and question not in self._passed:
                            asked[question] = None
        if asked:
            answers = await queries.passing(
                conn, [(value, kind, f.operator, f.argument, f.negated) for value, kind, f in asked]
            )
            self._passed.update(zip(asked, answers, strict=True))

    def _question(self, delivery: _Delivery, role: str, condition: Filter) -> tuple[str | None, str, Filter] | None:
        column = delivery.tables[role].columns.get(condition.column)
        if column is None or condition.column not in delivery.values:
            return None
        return delivery.values[condition.column], column.sql_type, condition

    async def _ask_json(self, conn: Connection, deliveries: Sequence[_Delivery]) -> None:
        """Ask for the JSON of values whose types are not known here."""
        if len(self._json) > REMEMBERED:
            self._json.clear()
        asked: dict[tuple[str, str], None] = {}
        for delivery in deliveries:
            for table in delivery.tables.values():
                for column in table.columns.values():
                    if not knows(column.type):
                        for values in (delivery.new, delivery.old):
                            value = values.get(column.name)
                            if value is not None and (value, column.sql_type) not in self._json:
                                asked[(value, column.sql_type)] = None
        if asked:
            texts = await queries.json_texts(conn, list(asked))
            self._json.update(zip(asked, (text.encode() for text in texts), strict=True))

    async def _ask_visibility(
        self, conn: Connection, deliveries: Sequence[_Delivery], xids: Sequence[int]
    ) -> dict[tuple[_Delivery, Identity], bool]:
        """Which identities may see which rows, where row-level security decides."""
        by_table: defaultdict[tuple[int, frozenset[Identity]], list[_Delivery]] = defaultdict(list)
        for delivery in deliveries:
            if delivery.change.kind == "DELETE":
                continue
            identities = frozenset(
                group.identity
                for group in delivery.groups
                if delivery.tables[group.role].secured and delivery.tables[group.role].error is None
            )
            if identities:
                by_table[(delivery.change.relation.oid, identities)].append(delivery)
        visible: dict[tuple[_Delivery, Identity], bool] = {}
        if by_table and xids:
            await queries.await_commits(conn, xids)
        for (oid, identities), asked in by_table.items():
            ordered = sorted(identities)  # by role, which is costlier to become than claims
            columns = asked[0].tables[ordered[0][0]].keys
            rows: dict[tuple[str | None, ...], list[_Delivery]] = {}
            for delivery in asked:
                rows.setdefault(tuple(delivery.new.get(column.name) for column in columns), []).append(delivery)
            answers = await queries.visible_rows(
                conn, oid, [c.name for c in columns], [c.sql_type for c in columns], list(rows), ordered
            )
            for identity, seen in zip(ordered, answers, strict=True):
                for index, same_row in enumerate(rows.values()):
                    for delivery in same_row:
                        visible[(delivery, identity)] = index in seen
        return visible

    # Telling

    def _hand_out(self, delivery: _Delivery, visible: Mapping[tuple[_Delivery, Identity], bool]) -> None:
        payloads: dict[tuple[str, tuple[str, ...] | None], orjson.Fragment] = {}
        frames: dict[tuple[str, tuple[int, ...], str, tuple[str, ...] | None], Shared] = {}
        for group in delivery.groups:
            table = delivery.tables[group.role]
            refused = delivery.change.kind != "DELETE" and table.error is not None
            if not refused and not visible.get((delivery, group.identity), True):
                continue
            by_selection: defaultdict[tuple[str, ...] | None, list[int]] = defaultdict(list)
            for subscription in group.subscriptions:
                if refused or self._passes(delivery, group.role, subscription):
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
                        shared = frames[key] = Shared(frame)
                    member.take_change(shared)
                self.delivered += len(group.members)

    def _passes(self, delivery: _Delivery, role: str, subscription: Subscription) -> bool:
        for condition in subscription.filters:
            question = self._question(delivery, role, condition)
            if question is None or not self._passed.get(question, False):
                return False
        return True

    def _payload(self, delivery: _Delivery, table: TableColumns, selected: tuple[str, ...] | None) -> orjson.Fragment:
        """The payload's `data`, as one role may see it."""
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
        shown = table.shown(selected)
        data["columns"] = [{"name": column.name, "type": column.type} for column in shown]
        names = [column.name for column in shown]
        if change.kind != "DELETE":
            data["record"] = self._record(delivery, table, names, delivery.new)
        if change.kind != "INSERT":
            if change.kind == "DELETE" and table.row_security:  # whoever is told cannot be checked any more
                names = [column.name for column in shown if column.is_key]
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
            known = value is None or knows(column.type)
            text = json_text(value, column.type) if known else self._json[(value or "", column.sql_type)]
            if not delivery.too_large or len(text) <= SMALL_VALUE_BYTES:
                record[name] = orjson.Fragment(text)
        return record
