"""A connection that listens for NOTIFY and reconnects when the database returns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import psycopg
from psycopg import sql

from onsembl.protocol.backoff import Backoff
from onsembl.sql.database import connect

logger = logging.getLogger(__name__)

CHECK_SECONDS = 20.0
"""How long a quiet connection is used before it is tested, in seconds."""


async def listen(
    url: str,
    channels: Sequence[str],
    on_notify: Callable[[str, str], Awaitable[None]],
    on_listening: Callable[[], Awaitable[None]],
) -> None:
    """Call `on_notify(channel, payload)` for each notification, until cancelled.

    `on_listening` is called after each connection is made: earlier notifications were not received, so the caller reads
    its state again.
    """
    backoff = Backoff()
    while True:
        try:
            async with await connect(url, autocommit=True) as conn:
                for channel in channels:
                    await conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
                await on_listening()
                backoff.reset()
                while True:
                    async for notify in conn.notifies(timeout=CHECK_SECONDS):
                        try:
                            await on_notify(notify.channel, notify.payload)
                        except psycopg.OperationalError:
                            raise  # the caller reads its state again over the next connection
                        except Exception:
                            logger.exception(
                                "A notification on %s could not be applied",
                                notify.channel,
                                extra={"action": "notification_failed"},
                            )
                    await conn.execute("select 1")
        except psycopg.OperationalError as error:
            delay = backoff.next_delay()
            logger.warning(
                "Lost the listening connection: %s", error, extra={"action": "listen_lost", "retry_in": delay}
            )
            await asyncio.sleep(delay)
