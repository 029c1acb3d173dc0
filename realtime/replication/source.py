"""Where changes come from: the write-ahead log, or the outbox where the log cannot be followed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import psycopg

from onsembl.protocol.backoff import Backoff
from onsembl.realtime.replication.outbox import stream_outbox
from onsembl.realtime.replication.pgoutput import Message
from onsembl.realtime.replication.stream import stream
from onsembl.sql import realtime_outbox as outbox
from onsembl.sql.database import connect

logger = logging.getLogger(__name__)


class Consumer(Protocol):
    """Whoever is told of changes. Between `began` and `ended` nothing is missed."""

    async def began(self) -> None: ...

    async def take(self, messages: list[Message]) -> None:
        """Changes, in commit order. Raises psycopg.Error when they cannot be passed on; the source begins anew."""
        ...

    async def ended(self) -> None: ...


class Source:
    """One database as a source of changes, for consumers of different publications."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._told = False

    async def follow(self, publication: str, consumer: Consumer) -> None:
        """Until cancelled, over as many connections as it takes."""
        backoff = Backoff(base=0.1, cap=2.0)
        while True:
            began = False
            try:
                async with aclosing(await self._open(publication)) as batches:
                    async for messages in batches:
                        if not began:
                            began = True
                            backoff.reset()
                            await consumer.began()
                        if messages:
                            await consumer.take(messages)
            except psycopg.Error as error:
                logger.warning("Lost the stream of changes: %s", error, extra={"action": "changes_lost"})
            finally:
                if began:
                    await consumer.ended()
            await asyncio.sleep(backoff.next_delay())

    async def _open(self, publication: str) -> AsyncGenerator[list[Message]]:
        async with await connect(self._url) as conn:
            reason = await outbox.why_not_the_log(conn)
            if reason is None:
                if await outbox.installed(conn):
                    await outbox.remove(conn)
                return stream(self._url, publication)
        if not self._told:
            self._told = True
            logger.warning(
                "The write-ahead log cannot be followed (%s): changes go through an outbox, kept by triggers.",
                reason,
                extra={"action": "changes_from_outbox"},
            )
        return stream_outbox(self._url, publication)
