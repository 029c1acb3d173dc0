"""The event feed in this process: it gives events their positions as they come, and wakes those who follow them."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn, Protocol

from onsembl.api.http.problems import Problem
from onsembl.api.notifier import Notifier
from onsembl.fleet.events import give_positions
from onsembl.fleet.listener import Listener
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import OperatorId
from onsembl.sql.database import DATABASE_ERRORS, Pool
from onsembl.sql.events import CHANNEL

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.05
"""How long events are gathered after a pass, in seconds."""
RETRY_SECONDS = 1.0
MAX_FOLLOWERS = 500
MAX_FOLLOWERS_OF_OPERATOR = 20


class Follower(Protocol):
    """A client that follows the feed."""

    @property
    def operator_id(self) -> OperatorId:
        """The operator who follows."""
        ...

    async def authorize_again(self) -> None:
        """Close the stream unless the operator's access token still allows it."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the stream with this code."""
        ...


class EventFeed:
    """Events of the database, in the order of their positions."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._notified = asyncio.Event()
        self._notifier = Notifier()
        self.followers: set[Follower] = set()
        self.passes = 0
        """How often events were given positions: a follower that reads after this number has changed misses none."""

    async def listen(self, listener: Listener) -> NoReturn:
        """Learn that events wait, until cancelled."""

        async def on_notify(_channel: str, _payload: str) -> None:
            self._notified.set()

        async def on_listening() -> None:
            self._notified.set()

        await listener.listen([CHANNEL], on_notify, on_listening)

    async def give_positions(self) -> NoReturn:
        """Give positions to events as they come, and wake the followers, until cancelled."""
        while True:
            await self._notified.wait()
            self._notified.clear()
            try:
                await give_positions(self._pool)
            except DATABASE_ERRORS as error:
                logger.warning("Events got no positions: %s", error, extra={"action": "event_feed_failed"})
                self._notified.set()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.passes += 1
            self._notifier.notify_all()
            await asyncio.sleep(PAUSE_SECONDS)

    async def wait(self, seen: int, seconds: float) -> None:
        """Wait until `passes` is not `seen`, for at most `seconds`."""
        if self.passes == seen:
            await self._notifier.wait(seconds)

    def admit(self, follower: Follower) -> None:
        """Add a follower, until `followers.discard`. Raises Problem 429 and 503."""
        own = sum(other.operator_id == follower.operator_id for other in self.followers)
        if own >= MAX_FOLLOWERS_OF_OPERATOR:
            raise Problem(429, f"An operator follows at most {own} event streams.", headers={"Retry-After": "10"})
        if len(self.followers) >= MAX_FOLLOWERS:
            raise Problem(503, "Too many event streams are followed.", headers={"Retry-After": "10"})
        self.followers.add(follower)
