"""What the sockets of one process share: the topics, the feed of changes, and the database to ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import psycopg
from psycopg_pool import PoolTimeout

from onsembl.realtime.channels.channel import Channel, Verify
from onsembl.realtime.channels.database_messages import DatabaseMessages
from onsembl.realtime.channels.feed import ChangeFeed
from onsembl.realtime.channels.limits import Limits
from onsembl.realtime.channels.questions import (
    Answer,
    AskPolicies,
    AskReplay,
    AskSubscribed,
    Extension,
    Failed,
    Policies,
    Question,
    Replayed,
    Subscribed,
)
from onsembl.realtime.channels.topics import Topics
from onsembl.sql import realtime_messages as queries
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)

NO_DATABASE = Failed("UnableToConnectToProject", "Realtime was unable to connect to the project database")
ClaimsOfKey = Callable[[str], dict[str, Any] | None]


@dataclass(slots=True)
class Counters:
    """What has happened since the start."""

    sockets_refused: int = 0
    sockets_cut_off: int = 0
    bad_frames: int = 0


class Client(Protocol):
    """A client's socket, as the others of its process know it."""

    known: bool
    """Whether a user's token was shown on it."""
    network: str
    """The network of its address."""

    @property
    def follows_changes(self) -> bool:
        """Whether one of its channels follows the database's changes."""
        ...

    @property
    def is_a_users(self) -> bool:
        """Whether a user's token is in use on it."""
        ...

    def is_of(self, subject: str) -> bool:
        """Whether a token of this user is in use on it."""
        ...

    def check(self, now: float, unix_time: float) -> None:
        """Close it if it is silent, idle or its token has expired."""
        ...

    def close(self, code: int) -> None:
        """Close it with this code."""
        ...


class Center:
    """`restart` is what ends a socket whose client has to read its state anew."""

    def __init__(self, pool: Pool, limits: Limits, restart: int) -> None:
        self.pool = pool
        self.limits = limits
        self.topics = Topics()
        self.counters = Counters()
        self.sockets: set[Client] = set()
        self.feed = ChangeFeed(pool, limits, self._send_off_followers)
        self.messages = DatabaseMessages(pool, self.topics, limits)
        self.verify: Verify
        self._restart = restart

    def _send_off_followers(self) -> None:
        """Changes may have been missed. The clients that follow them come back by themselves and read their state anew
        (a channel that is closed alone would not be joined again by supabase-js)."""
        for socket in list(self.sockets):
            if socket.follows_changes:
                socket.close(self._restart)

    def unknown_at(self, network: str) -> int:
        """How many sockets of an address have shown no user's token."""
        return sum(not socket.known and socket.network == network for socket in self.sockets)

    def send_away(self, subject: str, code: int) -> None:
        """End the sockets of a user, by the id that their tokens name."""
        for socket in list(self.sockets):
            if socket.is_of(subject):
                socket.close(code)

    def send_users_away(self) -> None:
        """End the sockets that any user's token is in use on: some may not be good any more. Clients come back by
        themselves, with what they have then."""
        for socket in list(self.sockets):
            if socket.is_a_users:
                socket.close(self._restart)

    async def answer(self, channel: Channel, question: Question) -> Answer:
        """Ask the database what the channel has to know."""
        try:
            match question:
                case AskPolicies():
                    return await self.policies(channel.name, channel.role, channel.claims, question)
                case AskReplay(replay):
                    return Replayed(await self.messages.replay(channel.name, replay))
                case AskSubscribed():
                    return await self._subscribed(channel, question.timeout)
        except (psycopg.OperationalError, PoolTimeout) as error:
            logger.warning("A channel could not be served: %s", error, extra={"action": "realtime_no_database"})
            return NO_DATABASE
        except psycopg.Error as error:
            logger.warning("A replay failed: %s", error, extra={"action": "realtime_replay_failed"})
            return Failed("UnableToReplayMessages", "Realtime was unable to replay messages")

    async def policies(self, topic: str, role: str, claims: str, asked: AskPolicies) -> Policies:
        """What is allowed; a policy that fails allows nothing. Raises psycopg.OperationalError, PoolTimeout."""
        read: list[str] = []
        write: list[str] = []
        async with self.pool.connection() as conn:
            try:
                async with conn.transaction():
                    if asked.read:
                        read = await queries.readable(conn, topic, role, claims, sorted(asked.read))
                    if asked.write:
                        write = await queries.writable(conn, topic, role, claims, sorted(asked.write))
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                logger.warning("A policy failed: %s", error, extra={"action": "realtime_policy_failed"})
                return Policies()
        return Policies(frozenset(cast(list[Extension], read)), frozenset(cast(list[Extension], write)))

    async def _subscribed(self, channel: Channel, seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return Subscribed(await self.feed.subscribe(channel))
        except TimeoutError:
            return Failed(
                "PostgresChangesSubscribeTimeout",
                f"Timed out after {int(seconds * 1000)}ms waiting for the postgres_changes subscription",
            )
