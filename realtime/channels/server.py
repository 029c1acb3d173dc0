"""The state that all sockets of one process share: the topics, the feed of changes and the pool of connections."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol, cast

import psycopg
from psycopg_pool import PoolTimeout

from onsembl.realtime.channels.channel import Channel, Verify
from onsembl.realtime.channels.database_broadcasts import DatabaseBroadcasts
from onsembl.realtime.channels.feed import ChangeFeed
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.queries import (
    Extension,
    Policies,
    PolicyQuery,
    Query,
    QueryFailed,
    QueryResult,
    Replayed,
    ReplayQuery,
    Subscribed,
    SubscriptionQuery,
)
from onsembl.realtime.channels.topics import Topics
from onsembl.sql import realtime_messages
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)

SERVICE_RESTART = 1012
"""The close code upon which clients reconnect and read their state anew."""
NO_DATABASE = QueryFailed("UnableToConnectToProject", "Realtime was unable to connect to the project database")


@dataclass(slots=True)
class Counters:
    """Counts since the start of the process."""

    sockets_rejected: int = 0
    sockets_lagging: int = 0
    """How often the channels of a socket started anew because its client read too slowly."""
    bad_frames: int = 0


class RealtimeClient(Protocol):
    """A client's socket, as the server sees it."""

    authenticated: bool
    """Whether the client has shown a user's token, or the secret key, on the socket."""
    network: str
    """The network of the client's address."""

    @property
    def has_subscriptions(self) -> bool:
        """Whether a channel of the socket subscribes to changes."""
        ...

    @property
    def has_any_user(self) -> bool:
        """Whether a user's token is in use on the socket."""
        ...

    def has_user(self, subject: str) -> bool:
        """Whether a token of this user is in use on the socket."""
        ...

    def check(self, now: float, unix_time: float) -> None:
        """Close the socket if it is idle, or a channel if its token has expired."""
        ...

    def close(self, code: int) -> None:
        """Close the socket with this code."""
        ...


class RealtimeServer:
    """The sockets of one process and their shared state.

    The feed of changes has connections of its own (`delivery_pool`, and `filter_pool` for the filters of clients), so
    that nothing that a client asks for (`pool`) delays it.
    """

    def __init__(self, pool: Pool, delivery_pool: Pool, filter_pool: Pool, limits: RealtimeLimits) -> None:
        self.pool = pool
        self.limits = limits
        self.topics = Topics()
        self.counters = Counters()
        self.sockets: set[RealtimeClient] = set()
        self.feed = ChangeFeed(delivery_pool, filter_pool, limits, self._disconnect_subscribers)
        self.database_broadcasts = DatabaseBroadcasts(pool, self.topics, limits)
        self.verify: Verify

    def _disconnect_subscribers(self) -> None:
        """Disconnect clients that may have missed changes; they reconnect and read their state anew.

        Closing the channel alone would not do: supabase-js would not join it again.
        """
        for socket in list(self.sockets):
            if socket.has_subscriptions:
                socket.close(SERVICE_RESTART)

    def unauthenticated_from(self, network: str) -> int:
        """The number of sockets of a network that have shown no user's token."""
        return sum(not socket.authenticated and socket.network == network for socket in self.sockets)

    def disconnect_user(self, subject: str, code: int) -> None:
        """Close the sockets of a user whose account has changed, by the `sub` claim of its tokens."""
        self.feed.delivery.forget_policies()
        for socket in list(self.sockets):
            if socket.has_user(subject):
                socket.close(code)

    def disconnect_users(self) -> None:
        """Close all sockets with a user's token, which may be invalid now. The clients reconnect with their present
        token."""
        for socket in list(self.sockets):
            if socket.has_any_user:
                socket.close(SERVICE_RESTART)

    async def run_query(self, channel: Channel, query: Query) -> QueryResult:
        """Query the database for a channel."""
        try:
            match query:
                case PolicyQuery():
                    return await self.policies(channel.name, channel.role, channel.claims, query)
                case ReplayQuery(replay):
                    return Replayed(await self.database_broadcasts.replay(channel.name, replay))
                case SubscriptionQuery():
                    return await self._subscribed(channel, query.timeout)
        except (psycopg.OperationalError, PoolTimeout) as error:
            logger.warning(
                "The database is not available for a channel: %s", error, extra={"action": "realtime_no_database"}
            )
            return NO_DATABASE
        except psycopg.Error as error:
            logger.warning("A replay failed: %s", error, extra={"action": "realtime_replay_failed"})
            return QueryFailed("UnableToReplayMessages", "Realtime was unable to replay messages")

    async def policies(self, topic: str, role: str, claims: str, query: PolicyQuery) -> Policies:
        """The extensions that the policies allow; none when a policy fails.

        Raises psycopg.OperationalError and PoolTimeout.
        """
        read: list[str] = []
        write: list[str] = []
        async with self.pool.connection() as conn:
            try:
                async with conn.transaction():
                    if query.read:
                        read = await realtime_messages.readable(conn, topic, role, claims, sorted(query.read))
                    if query.write:
                        write = await realtime_messages.writable(conn, topic, role, claims, sorted(query.write))
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                logger.warning("A policy failed: %s", error, extra={"action": "realtime_policy_failed"})
                return Policies()
        return Policies(frozenset(cast(list[Extension], read)), frozenset(cast(list[Extension], write)))

    async def _subscribed(self, channel: Channel, seconds: float) -> QueryResult:
        try:
            async with asyncio.timeout(seconds):
                return Subscribed(await self.feed.subscribe(channel))
        except TimeoutError:
            return QueryFailed(
                "PostgresChangesSubscribeTimeout",
                f"Timed out after {int(seconds * 1000)}ms waiting for the postgres_changes subscription",
            )
