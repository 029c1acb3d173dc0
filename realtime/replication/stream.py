"""Following the write-ahead log: a temporary slot, streamed for as long as the connection lives.

Changes arrive in commit order, at most once: what was committed while there was no connection is not replayed, so
whoever consumes the stream is told when one ends.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import ExecStatus

from onsembl.realtime.replication.pgoutput import Decoder, Message
from onsembl.sql.database import PromptConnection

STATUS_SECONDS = 10.0
"""How often the server hears that we live; it waits `wal_sender_timeout`, 60 s by default."""
BATCH_BYTES = 1024 * 1024
"""Messages that are there already are given together, up to about this much."""
_FORMATS = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1"


async def stream(url: str, publication: str) -> AsyncGenerator[list[Message]]:
    """What the log says from now on, in batches of what is there. The first batch is empty: the slot stands.

    Ends with psycopg.OperationalError, or another psycopg.Error when the server will not let the log be followed.
    """
    slot = f"onsembl_{secrets.token_hex(6)}"
    conn = await PromptConnection.connect(
        url, autocommit=True, replication="database", options=_FORMATS, connect_timeout=10
    )
    copy = _CopyBoth(conn)
    try:
        await conn.execute(f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT".encode())
        await copy.start(
            f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '2', publication_names '{publication}')"
        )
        yield []
        decoder = Decoder()
        while True:
            messages = [decoder.decode(payload) for payload in await copy.payloads()]
            yield [message for message in messages if message is not None]
    finally:
        copy.stop()
        await conn.close()  # and nothing else: a stream cannot be rolled back


class _CopyBoth:
    """The copy-both mode of a replication connection (psycopg has it on libpq's level only)."""

    def __init__(self, conn: AsyncConnection[Any]) -> None:
        self._pgconn = conn.pgconn
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._watched: int | None = None
        self._received = 0  # LSN
        self._due = 0.0

    async def start(self, command: str) -> None:
        self._watched = self._pgconn.socket
        self._loop.add_reader(self._watched, self._readable.set)
        self._pgconn.send_query(command.encode())
        self._pgconn.flush()
        while self._pgconn.is_busy():
            await self._more()
        result = self._pgconn.get_result()
        if result is None or result.status != ExecStatus.COPY_BOTH:
            raise psycopg.OperationalError(result.error_message.decode() if result else "no answer")
        self._due = self._loop.time() + STATUS_SECONDS

    def stop(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._watched = None

    async def payloads(self) -> list[bytes]:
        """What the plugin says next, together with all of it that is here."""
        payloads: list[bytes] = []
        size_of_all = 0
        while True:
            if self._loop.time() >= self._due:
                self._report()
            size, data = self._pgconn.get_copy_data(1)
            if size > 0:
                payload = self._open(bytes(data))
                if payload is not None:
                    payloads.append(payload)
                    size_of_all += size
                    if size_of_all >= BATCH_BYTES:
                        return payloads
            elif size < 0:
                raise psycopg.OperationalError("the server ended the stream")
            elif payloads:
                return payloads
            else:
                try:
                    async with asyncio.timeout_at(self._due):
                        await self._more()
                except TimeoutError:
                    pass

    def _open(self, message: bytes) -> bytes | None:
        """The payload of XLogData; of a keepalive, nothing."""
        if message[:1] == b"w":
            self._received = max(self._received, struct.unpack_from(">Q", message, 1)[0])
            return message[25:]
        if message[:1] == b"k":
            self._received = max(self._received, struct.unpack_from(">Q", message, 1)[0])
            if message[17]:
                self._report()
        return None

    async def _more(self) -> None:
        self._readable.clear()
        await self._readable.wait()
        self._pgconn.consume_input()

    def _report(self) -> None:
        """Everything up to here may be forgotten ("Standby status update").

        Exactly up to here: a server that shuts down waits for its own position to be confirmed, and one byte more is
        another position.
        """
        lsn = self._received
        self._pgconn.put_copy_data(b"r" + struct.pack(">QQQQB", lsn, lsn, lsn, 0, 0))
        self._pgconn.flush()
        self._due = self._loop.time() + STATUS_SECONDS
