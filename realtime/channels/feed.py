"""The stream of changes, and whoever follows it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
from psycopg_pool import PoolTimeout

from onsembl.realtime.channels.changes import ChangeDelivery, CommittedChange
from onsembl.realtime.channels.followers import Follower, Followers
from onsembl.realtime.channels.limits import Limits
from onsembl.realtime.channels.subscription import Subscription
from onsembl.realtime.replication.pgoutput import Begin, Change, Message, Relation
from onsembl.sql import realtime_changes as queries
from onsembl.sql.database import Connection, Pool

logger = logging.getLogger(__name__)

BATCH = 200
"""So many changes are delivered together; between two batches, others have their turn."""
RETRY_SECONDS = 1.0


class ChangeFeed:
    """Passes changes on. `on_missed` is called when some may have been missed."""

    def __init__(self, pool: Pool, limits: Limits, on_missed: Callable[[], None]) -> None:
        self._pool = pool
        self._on_missed = on_missed
        self.followers = Followers()
        self.delivery = ChangeDelivery(pool, self.followers, limits)
        self._lag = 0.0
        self._behind_since: datetime | None = None
        """The commit that is not delivered yet; or when the changes stopped flowing."""
        self._flowing = asyncio.Event()
        self._committed_at = datetime.now(UTC)
        self._xid: int | None = None

    @property
    def is_flowing(self) -> bool:
        return self._flowing.is_set()

    @property
    def lag(self) -> float:
        """Seconds from the last commit that concerned somebody to its delivery; while one waits, or none can be seen,
        since when."""
        if self._behind_since is None:
            return self._lag
        return (datetime.now(UTC) - self._behind_since).total_seconds()

    async def subscribe(self, follower: Follower) -> str | None:
        """Let it follow changes; returns when they flow, or with the reason why they never will."""
        while True:
            await self._flowing.wait()
            try:
                async with self._pool.connection() as conn:
                    for subscription in follower.subscriptions:
                        error = await self._check(conn, subscription, follower.role)
                        if error is not None:
                            self.followers.remove(follower)
                            return error
            except (psycopg.OperationalError, PoolTimeout):
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.followers.add(follower)
            if self.is_flowing:
                return None

    def unsubscribe(self, follower: Follower) -> None:
        self.followers.remove(follower)

    async def _check(self, conn: Connection, subscription: Subscription, role: str) -> str | None:
        filters = [(f.column, f.operator, f.argument) for f in subscription.filters]
        try:
            async with conn.transaction():
                found = await queries.check_subscription(
                    conn, subscription.schema, subscription.table, role, filters, subscription.selected
                )
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            return (
                "Unable to subscribe to changes with given parameters. An exception happened so please check your "
                f"connect parameters: [{subscription}]. Exception: {_told(error)}"
            )
        if found:
            return None
        return (
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given "
            f"connect parameters: [{subscription}]"
        )

    # Consumer

    async def began(self) -> None:
        self.delivery.forget()
        self._behind_since, self._lag = None, 0.0
        self._flowing.set()

    async def ended(self) -> None:
        self._flowing.clear()
        self._behind_since = self._behind_since or datetime.now(UTC)
        self._on_missed()

    async def take(self, messages: list[Message]) -> None:
        """Pass changes on. Raises psycopg.Error when the database cannot be asked who may see them."""
        changes: list[CommittedChange] = []
        for message in messages:
            match message:
                case Begin():
                    self._committed_at, self._xid = message.committed_at, message.xid
                case Change():
                    changes.append(CommittedChange(message, self._committed_at, self._xid))
                case Relation():
                    self.delivery.forget()
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


def _told(error: psycopg.Error) -> str:
    """In the words of the real service's driver: `ERROR P0001 (raise_exception) invalid column for filter x`."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    return f"ERROR {error.sqlstate} ({name}) {error.diag.message_primary}"
