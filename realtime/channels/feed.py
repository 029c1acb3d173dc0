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
        self.lag = 0.0
        """Seconds from the last commit that concerned somebody to its delivery."""
        self._flowing = asyncio.Event()
        self._committed_at = datetime.now(UTC)
        self._xid: int | None = None

    @property
    def is_flowing(self) -> bool:
        return self._flowing.is_set()

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
        self._flowing.set()

    async def ended(self) -> None:
        self._flowing.clear()
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
        for begin in range(0, len(changes), BATCH):
            try:
                await self.delivery.deliver(changes[begin : begin + BATCH])
            except PoolTimeout as error:
                raise psycopg.OperationalError("no connection to check subscribers with") from error
            await asyncio.sleep(0)
        if changes:
            self.lag = (datetime.now(UTC) - self._committed_at).total_seconds()


def _told(error: psycopg.Error) -> str:
    """In the words of the real service's driver: `ERROR P0001 (raise_exception) invalid column for filter x`."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    return f"ERROR {error.sqlstate} ({name}) {error.diag.message_primary}"
