"""A database as a source of changes: by the write-ahead log, or by the outbox where the log is not available."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import psycopg

from onsembl.protocol.backoff import Backoff
from onsembl.realtime.replication.outbox import stream_outbox
from onsembl.realtime.replication.pgoutput import ReplicationMessage
from onsembl.realtime.replication.wal_stream import stream_wal
from onsembl.sql import realtime_outbox
from onsembl.sql.database import connect

logger = logging.getLogger(__name__)


class ChangeConsumer(Protocol):
    """Receives the changes of one publication. It receives every change between `started` and `stopped`."""

    async def started(self) -> None:
        """A stream has started."""
        ...

    async def receive(self, messages: list[ReplicationMessage]) -> None:
        """Receive changes, in commit order. Raises psycopg.Error for changes it cannot process; the stream ends."""
        ...

    async def stopped(self) -> None:
        """The stream has ended. Changes may be missed until the next one starts."""
        ...


class ChangeSource:
    """One database, for consumers of different publications."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._outbox_logged = False

    async def stream_to(self, consumer: ChangeConsumer, publication: str) -> None:
        """Stream the publication's changes to a consumer, until cancelled. Reconnects when a stream ends."""
        backoff = Backoff(base=0.1, cap=2.0)
        while True:
            started = False
            try:
                async with aclosing(await self._open(publication)) as batches:
                    async for messages in batches:
                        if not started:
                            started = True
                            backoff.reset()
                            await consumer.started()
                        if messages:
                            await consumer.receive(messages)
            except psycopg.Error as error:
                logger.warning("Lost the stream of changes: %s", error, extra={"action": "changes_lost"})
            finally:
                if started:
                    await consumer.stopped()
            await asyncio.sleep(backoff.next_delay())

    async def _open(self, publication: str) -> AsyncGenerator[list[ReplicationMessage]]:
        async with await connect(self._url) as conn:
            reason = await realtime_outbox.why_not_the_log(conn)
            if reason is None:
                if await realtime_outbox.installed(conn):
                    await realtime_outbox.remove(conn)
                return stream_wal(self._url, publication)
        if not self._outbox_logged:
            self._outbox_logged = True
            logger.warning(
                "The write-ahead log is not available (%s). Triggers write changes to an outbox instead.",
                reason,
                extra={"action": "changes_from_outbox"},
            )
        return stream_outbox(self._url, publication)
