"""Streams the write-ahead log through a temporary replication slot, for as long as the connection lives.

Changes arrive in commit order, at most once. Changes that are committed while there is no connection are lost, so a
consumer must know when a stream ends.
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

from onsembl.realtime.replication.pgoutput import Decoder, ReplicationMessage
from onsembl.sql.database import PromptConnection

STATUS_SECONDS = 10.0
"""How often the client reports its status. The server drops it after `wal_sender_timeout`, 60 s by default."""
BATCH_BYTES = 1024 * 1024
"""Messages that have arrived already are returned together, up to about this many bytes."""
_FORMATS = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1"


async def stream_wal(url: str, publication: str) -> AsyncGenerator[list[ReplicationMessage]]:
    """The log's messages from now on, in batches. The first batch is empty; no message after it is missed.

    Ends with psycopg.OperationalError, or another psycopg.Error when the server does not allow replication.
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
        await conn.close()  # Nothing else: a stream cannot be rolled back.


class _CopyBoth:
    """The copy-both mode of a replication connection, by libpq's functions: psycopg has no interface of its own."""

    def __init__(self, conn: AsyncConnection[Any]) -> None:
        self._pgconn = conn.pgconn
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._socket: int | None = None
        self._received = 0  # LSN
        self._report_due = 0.0

    async def start(self, command: str) -> None:
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._readable.set)
        self._pgconn.send_query(command.encode())
        self._pgconn.flush()
        while self._pgconn.is_busy():
            await self._read_more()
        result = self._pgconn.get_result()
        if result is None or result.status != ExecStatus.COPY_BOTH:
            raise psycopg.OperationalError(result.error_message.decode() if result else "no answer")
        self._report_due = self._loop.time() + STATUS_SECONDS

    def stop(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket = None

    async def payloads(self) -> list[bytes]:
        """Wait for the plugin's next payload; return it with all others that have arrived."""
        payloads: list[bytes] = []
        total_size = 0
        while True:
            if self._loop.time() >= self._report_due:
                self._report_status()
            size, data = self._pgconn.get_copy_data(1)
            if size > 0:
                payload = self._payload(bytes(data))
                if payload is not None:
                    payloads.append(payload)
                    total_size += size
                    if total_size >= BATCH_BYTES:
                        return payloads
            elif size < 0:
                raise psycopg.OperationalError("the server ended the stream")
            elif payloads:
                return payloads
            else:
                try:
                    async with asyncio.timeout_at(self._report_due):
                        await self._read_more()
                except TimeoutError:
                    pass

    def _payload(self, message: bytes) -> bytes | None:
        """The payload of an XLogData message; None for a keepalive."""
        if message[:1] == b"w":
            self._received = max(self._received, struct.unpack_from(">Q", message, 1)[0])
            return message[25:]
        if message[:1] == b"k":
            self._received = max(self._received, struct.unpack_from(">Q", message, 1)[0])
            if message[17]:
                self._report_status()
        return None

    async def _read_more(self) -> None:
        self._readable.clear()
        await self._readable.wait()
        self._pgconn.consume_input()

    def _report_status(self) -> None:
        """Confirm the received position, so that the server may drop the log before it ("Standby status update").

        The position must be exact: a server that shuts down waits until its own last position is confirmed.
        """
        lsn = self._received
        self._pgconn.put_copy_data(b"r" + struct.pack(">QQQQB", lsn, lsn, lsn, 0, 0))
        self._pgconn.flush()
        self._report_due = self._loop.time() + STATUS_SECONDS
