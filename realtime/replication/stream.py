"""Following the write-ahead log: a temporary slot, streamed for as long as the connection lives.

Changes arrive in commit order, at most once: what was committed while there was no connection is not replayed, so
whoever consumes the stream is told when a new one begins.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import ExecStatus

from onsembl.protocol.backoff import Backoff
from onsembl.realtime.replication.pgoutput import Decoder, Message

logger = logging.getLogger(__name__)

STATUS_SECONDS = 10.0
"""How often the server hears that we live; it waits `wal_sender_timeout`, 60 s by default."""


async def follow(
    url: str,
    publication: str,
    on_begin: Callable[[], Awaitable[None]],
    on_message: Callable[[Message], Awaitable[None]],
    on_end: Callable[[], Awaitable[None]],
) -> None:
    """Stream until cancelled, over as many connections as it takes.

    `on_begin` is called when a stream stands and `on_end` when it broke: between the two, nothing is missed.
    """
    backoff = Backoff(base=0.1, cap=5.0)
    while True:
        began = False
        try:
            async for message in _stream(url, publication):
                if not began:
                    began = True
                    backoff.reset()
                    await on_begin()
                if message is not None:
                    await on_message(message)
        except psycopg.Error as error:
            logger.warning("Lost the replication stream: %s", error, extra={"action": "replication_lost"})
        finally:
            if began:
                await on_end()
        await asyncio.sleep(backoff.next_delay())


async def _stream(url: str, publication: str) -> AsyncIterator[Message | None]:
    """Messages of one connection; first a None, when the slot stands."""
    slot = f"onsembl_{secrets.token_hex(6)}"
    conn = await AsyncConnection.connect(
        url, autocommit=True, replication="database", options="-c timezone=UTC", connect_timeout=10
    )
    try:
        await conn.execute(f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT".encode())
        copy = _CopyBoth(conn)
        await copy.start(
            f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names '{publication}')"
        )
        yield None
        decoder = Decoder()
        async for payload in copy.payloads():
            message = decoder.decode(payload)
            if message is not None:
                yield message
    finally:
        await conn.close()  # and nothing else: a stream cannot be rolled back


class _CopyBoth:
    """The copy-both mode of a replication connection (psycopg has it on libpq's level only)."""

    def __init__(self, conn: AsyncConnection[Any]) -> None:
        self._pgconn = conn.pgconn
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._received = 0  # LSN

    async def start(self, command: str) -> None:
        self._loop.add_reader(self._pgconn.socket, self._readable.set)
        self._pgconn.send_query(command.encode())
        self._pgconn.flush()
        while self._pgconn.is_busy():
            await self._more()
        result = self._pgconn.get_result()
        if result is None or result.status != ExecStatus.COPY_BOTH:
            raise psycopg.OperationalError(result.error_message.decode() if result else "no answer")

    async def _more(self) -> None:
        self._readable.clear()
        await self._readable.wait()
        self._pgconn.consume_input()

    async def payloads(self) -> AsyncIterator[bytes]:
        """What the plugin says, message by message."""
        try:
            due = self._loop.time() + STATUS_SECONDS
            while True:
                size, data = self._pgconn.get_copy_data(1)
                if size > 0:
                    raw = bytes(data)
                    if raw[:1] == b"w":
                        self._received = max(self._received, struct.unpack_from(">Q", raw, 1)[0])
                        yield raw[25:]
                    elif raw[:1] == b"k":
                        self._received = max(self._received, struct.unpack_from(">Q", raw, 1)[0])
                        if raw[17]:
                            self._report()
                elif size == 0:
                    try:
                        async with asyncio.timeout_at(due):
                            await self._more()
                    except TimeoutError:
                        pass
                else:
                    raise psycopg.OperationalError("the server ended the stream")
                if self._loop.time() >= due:
                    self._report()
                    due = self._loop.time() + STATUS_SECONDS
        finally:
            self._loop.remove_reader(self._pgconn.socket)

    def _report(self) -> None:
        """Everything up to here may be forgotten ("Standby status update").

        Exactly up to here: a server that shuts down waits for its own position to be confirmed, and one byte more is
        another position.
        """
        lsn = self._received
        self._pgconn.put_copy_data(b"r" + struct.pack(">QQQQB", lsn, lsn, lsn, 0, 0))
        self._pgconn.flush()
