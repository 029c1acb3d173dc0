"""The one connection of a process that listens for NOTIFY, for all its parts, and reconnects when the database
returns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import psycopg
from psycopg import AsyncConnection, sql

from onsembl.protocol.backoff import Backoff
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import Connection, connect

logger = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
"""How long a quiet connection is used before it is tested, in seconds."""
ANSWER_SECONDS = 5.0
"""How long the test may take, in seconds. psycopg takes up to ten more to give a statement up."""
MOST_WAITING = 10_000
"""Notifications that may wait for one listener. With more, it reads its state again instead."""


class Listener:
    """Receives notifications for everybody who calls `listen`, over one connection that `run` holds.

    Each caller has a queue of its own, so a slow or failing caller delays no other.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.lost = False
        """Whether the database was ever lost: what broke this connection has broken those of pools, too."""
        self._subscriptions: set[_Subscription] = set()
        self._added = asyncio.Event()

    async def run(self) -> NoReturn:
        """Receive until cancelled."""
        backoff = Backoff()
        while True:
            try:
                async with await connect(self._url, autocommit=True) as conn:
                    await self._receive(conn, backoff)
            except psycopg.OperationalError as error:
                self.lost = True
                delay = backoff.next_delay()
                logger.warning(
                    "Lost the listening connection: %s", error, extra={"action": "listen_lost", "retry_in": delay}
                )
                await asyncio.sleep(delay)

    async def listen(
        self,
        channels: Sequence[str],
        on_notify: Callable[[str, str], Awaitable[None]],
        on_listening: Callable[[], Awaitable[None]],
    ) -> NoReturn:
        """Call `on_notify(channel, payload)` for each notification, until cancelled.

        `on_listening` is called after each connection is made: earlier notifications were not received, so the caller
        reads its state again. This also happens after `on_notify` fails for want of the database.
        """
        subscription = _Subscription(frozenset(channels))
        self._subscriptions.add(subscription)
        self._added.set()
        backoff = Backoff()
        try:
            while True:
                notification = await subscription.next()
                try:
                    if notification is None:
                        await on_listening()
                        backoff.reset()
                    else:
                        await _apply(on_notify, *notification)
                except psycopg.OperationalError as error:
                    self.lost = True
                    delay = backoff.next_delay()
                    logger.warning(
                        "A listener lost the database: %s", error, extra={"action": "listen_lost", "retry_in": delay}
                    )
                    await asyncio.sleep(delay)
                    subscription.begin_again()
        finally:
            self._subscriptions.discard(subscription)

    async def _receive(self, conn: Connection, backoff: Backoff) -> NoReturn:
        channels: set[str] = set()
        begun: set[_Subscription] = set()
        while True:
            self._added.clear()
            begun &= self._subscriptions
            for subscription in self._subscriptions - begun:
                for channel in subscription.channels - channels:
                    await conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
                channels |= subscription.channels
                begun.add(subscription)
                subscription.begin_again()
            backoff.reset()
            receiving = asyncio.create_task(self._pass_on(conn))
            adding = asyncio.create_task(self._added.wait())
            try:
                await asyncio.wait({receiving, adding}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel_until_done([receiving, adding])
            if not receiving.cancelled():
                receiving.result()

    async def _pass_on(self, conn: AsyncConnection[object]) -> NoReturn:
        while True:
            async for notification in conn.notifies(timeout=CHECK_SECONDS):
                for subscription in self._subscriptions:
                    subscription.add(notification.channel, notification.payload)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await conn.execute("select 1")
            except TimeoutError as error:
                raise psycopg.OperationalError("the connection does not answer") from error


class _Subscription:
    """The notifications that wait for one listener. A None among them stands for all those that it has missed."""

    def __init__(self, channels: frozenset[str]) -> None:
        self.channels = channels
        self._waiting: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

    def add(self, channel: str, payload: str) -> None:
        if channel not in self.channels:
            return
        if self._waiting.qsize() >= MOST_WAITING:
            self.begin_again()
        self._waiting.put_nowait((channel, payload))

    def begin_again(self) -> None:
        """Have the listener read its state again, which includes what waits."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def next(self) -> tuple[str, str] | None:
        return await self._waiting.get()


async def _apply(on_notify: Callable[[str, str], Awaitable[None]], channel: str, payload: str) -> None:
    try:
        await on_notify(channel, payload)
    except psycopg.OperationalError:
        raise
    except Exception:
        logger.exception("A notification on %s could not be applied", channel, extra={"action": "notification_failed"})
