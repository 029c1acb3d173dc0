"""The feed of changes: takes them from the stream, delivers them to subscribers, and measures its lag."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
from psycopg_pool import PoolTimeout

from onsembl.realtime.channels.changes import ChangeDelivery, CommittedChange
from onsembl.realtime.channels.filters import TOO_COSTLY, FilterFeeds
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.subscribers import Subscriber, Subscribers
from onsembl.realtime.channels.subscription import Subscription
from onsembl.realtime.replication.pgoutput import Begin, Change, Relation, ReplicationMessage
from onsembl.sql import realtime_changes
from onsembl.sql.database import Connection, Pool

logger = logging.getLogger(__name__)

BATCH = 200
"""How many changes are delivered together; other tasks run between two batches."""
RETRY_SECONDS = 1.0
NO_REGULAR_EXPRESSIONS = "Error parsing `filter` params: `match` and `imatch` are available only with the secret key"


class ChangeFeed:
    """A ChangeConsumer that delivers changes. `on_missed` is called when subscribers may have missed some.

    `pool` is for the delivery alone, `filter_pool` for what subscribers choose: their filters.
    """

    def __init__(self, pool: Pool, filter_pool: Pool, limits: RealtimeLimits, on_missed: Callable[[], None]) -> None:
        self._filter_pool = filter_pool
        self._limits = limits
        self._on_missed = on_missed
        self.subscribers = Subscribers()
        self.filters = FilterFeeds(filter_pool, limits, self._end_filtered, self._miss_filtered)
        self.delivery = ChangeDelivery(pool, self.subscribers, limits, self.filters)
        self._lag = 0.0
        self._behind_since: datetime | None = None
        """The time of the oldest commit that is not delivered yet, or of the end of the stream."""
        self._streaming = asyncio.Event()
        self._committed_at = datetime.now(UTC)
        self._xid: int | None = None

    @property
    def lag(self) -> float:
        """Seconds from the last commit to its delivery. While a commit waits for delivery, its age; while there is no
        stream, the seconds since its end."""
        if self._behind_since is None:
            return self._lag
        return (datetime.now(UTC) - self._behind_since).total_seconds()

    async def subscribe(self, subscriber: Subscriber) -> str | None:
        """Check the subscriptions and add the subscriber. Returns once it gets changes, or an error if it never can."""
        while True:
            await self._streaming.wait()
            try:
                error = await self._check_all(subscriber)
            except (psycopg.OperationalError, PoolTimeout):
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if error is not None:
                self.unsubscribe(subscriber)
                return error
            self.subscribers.add(subscriber)
            if self._streaming.is_set():
                return None

    def unsubscribe(self, subscriber: Subscriber) -> None:
        if subscriber in self.subscribers:
            self.subscribers.remove(subscriber)
            if not self.subscribers.with_filters(subscriber.payer):
                self.filters.discard(subscriber.payer)

    def _end_filtered(self, payer: str, reason: str) -> None:
        logger.warning("Ended subscriptions of %s: %s", payer, reason, extra={"action": "realtime_filters_ended"})
        for subscriber in self.subscribers.with_filters(payer):
            self.unsubscribe(subscriber)
            subscriber.end_changes(reason)

    def _miss_filtered(self, payer: str) -> None:
        for subscriber in self.subscribers.with_filters(payer):
            subscriber.miss_changes()

    async def _check_all(self, subscriber: Subscriber) -> str | None:
        """The first error of the subscriptions. Raises psycopg.OperationalError and PoolTimeout."""
        async with self._filter_pool.connection() as conn:
            await realtime_changes.limit_statements(conn, self._limits.filter_seconds)
            for subscription in subscriber.subscriptions:
                if subscription.filters and not self.filters.may_subscribe(subscriber.payer):
                    return TOO_COSTLY
                began = time.monotonic()
                try:
                    error = await self._check(conn, subscription, subscriber.role)
                except psycopg.errors.QueryCanceled:
                    error = TOO_COSTLY
                finally:
                    if subscription.filters:
                        self.filters.spend(subscriber.payer, time.monotonic() - began)
                if error is not None:
                    return error
        return None

    async def _check(self, conn: Connection, subscription: Subscription, role: str) -> str | None:
        if not self._limits.regular_expressions and role != "service_role" and subscription.has_regular_expression:
            return NO_REGULAR_EXPRESSIONS
        filters = [(f.column, f.operator, f.argument) for f in subscription.filters]
        try:
            async with conn.transaction():
                found = await realtime_changes.check_subscription(
                    conn, subscription.schema, subscription.table, role, filters, subscription.selected
                )
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            return (
                "Unable to subscribe to changes with given parameters. An exception happened so please check your "
                f"connect parameters: [{subscription}]. Exception: {_postgrex_text(error)}"
            )
        if found:
            return None
        return (
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given "
            f"connect parameters: [{subscription}]"
        )

    # ChangeConsumer

    async def started(self) -> None:
        # A broken connection would be noticed by the first change, and end the stream again.
        await self.delivery.check_connections()
        self.delivery.clear_caches()
        self._behind_since, self._lag = None, 0.0
        self._streaming.set()

    async def stopped(self) -> None:
        self._streaming.clear()
        self._behind_since = self._behind_since or datetime.now(UTC)
        self._on_missed()

    async def receive(self, messages: list[ReplicationMessage]) -> None:
        """Deliver changes. Raises psycopg.Error when the database cannot be asked which subscribers may see them."""
        changes: list[CommittedChange] = []
        for message in messages:
            match message:
                case Begin():
                    self._committed_at, self._xid = message.committed_at, message.xid
                case Change():
                    changes.append(CommittedChange(message, self._committed_at, self._xid))
                case Relation():
                    self.delivery.clear_caches()
                case _:
                    pass
        if changes:
            self._behind_since = changes[0].committed_at
        for begin in range(0, len(changes), BATCH):
            try:
                await self.delivery.deliver(changes[begin : begin + BATCH])
            except PoolTimeout as error:
                raise psycopg.OperationalError("no connection to check subscribers with") from error
            await asyncio.sleep(0)
        if changes:
            self._lag = (datetime.now(UTC) - self._committed_at).total_seconds()
            self._behind_since = None


def _postgrex_text(error: psycopg.Error) -> str:
    """The text of Supabase Realtime's driver: `ERROR P0001 (raise_exception) invalid column for filter x`. Text that
    Postgres cannot hold is not sent to it: that error has no code."""
    if error.sqlstate is None:
        return str(error)
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    return f"ERROR {error.sqlstate} ({name}) {error.diag.message_primary}"
