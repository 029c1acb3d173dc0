"""A pooler in transaction mode: each transaction of a client gets another session of Postgres, as Supavisor does it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn

SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102
STARTUP = {
    "server_version": "17.4",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "integer_datetimes": "on",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
}
LEFT = """select string_agg(name, ', ') from (
        select name || ' = ' || setting as name from pg_settings
            where source = 'session' and name not like 'transaction%'
        union all select statement from pg_prepared_statements) as left_behind"""


class TransactionPooler:
    """`transactions` counts what was given to a session."""

    def __init__(self, url: str, sessions: int) -> None:
        self.sessions = [PGconn.connect(url.encode()) for _ in range(sessions)]
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.transactions = 0

    async def open_sessions(self) -> None:
        """Take over the sockets of the connections, which libpq has signed in."""
        for connection in self.sessions:
            taken = socket.socket(fileno=os.dup(connection.socket))
            taken.setblocking(False)
            self._free.put_nowait(await asyncio.open_connection(sock=taken))

    async def close(self) -> list[str]:
        """Close the sessions; return of each the settings and prepared statements that clients have left in it."""
        for _ in self.sessions:
            _, writer = await self._free.get()
            writer.close()
            await writer.wait_closed()
        left: list[str] = []
        for connection in self.sessions:
            left.append((connection.exec_(LEFT.encode()).get_value(0, 0) or b"").decode())
            connection.finish()
        return left

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, whose password is not asked for."""
        try:
            await self._start(reader, writer)
            next_message = asyncio.ensure_future(_message(reader))
            while (await next_message)[:1] != b"X":
                session = await self._free.get()
                self.transactions += 1
                transaction = _Transaction(reader, writer, *session)
                try:
                    next_message = await transaction.run(next_message)
                finally:
                    self._free.put_nowait(session)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size, code = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(size - 8)
            if code != SSL_REQUEST:
                break
            writer.write(b"N")
        if code == CANCEL_REQUEST:
            raise ConnectionError("a request to cancel")
        writer.write(_packed(b"R", struct.pack("!i", 0)))
        for name, value in STARTUP.items():
            writer.write(_packed(b"S", f"{name}\0{value}\0".encode()))
        writer.write(_packed(b"K", struct.pack("!ii", 1, 1)) + _packed(b"Z", b"I"))


class _Transaction:
    """Passes the messages of one transaction on, both ways."""

    def __init__(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._client = client
        self._to_client = to_client
        self._server = server
        self._to_server = to_server
        self._unanswered = 0

    async def run(self, message: asyncio.Future[bytes]) -> asyncio.Future[bytes]:
        """Return the client's next message when the session is idle again. A client that leaves is rolled back."""
        answer = asyncio.ensure_future(_message(self._server))
        while True:
            await asyncio.wait({message, answer}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                came = answer.result()
                self._to_client.write(came)
                if came[:1] == b"Z":
                    self._unanswered -= 1
                    if self._unanswered == 0 and came[5:] == b"I":
                        return message
                answer = asyncio.ensure_future(_message(self._server))
            if message.done():
                if message.exception() is not None or message.result()[:1] == b"X":
                    await self._roll_back(answer)
                    return message
                self._unanswered += message.result()[:1] in (b"Q", b"S")
                self._to_server.write(message.result())
                message = asyncio.ensure_future(_message(self._client))

    async def _roll_back(self, answer: asyncio.Future[bytes]) -> None:
        self._to_server.write(_packed(b"Q", b"rollback\0"))
        self._unanswered += 1
        while True:
            self._unanswered -= (await answer)[:1] == b"Z"
            if self._unanswered == 0:
                return
            answer = asyncio.ensure_future(_message(self._server))


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@asynccontextmanager
async def transaction_pooler(url: str, sessions: int = 4) -> AsyncGenerator[tuple[TransactionPooler, str]]:
    """Serve a pooler before a database; yield it with its URL. At the end no session may hold anything of a client."""
    pooler = TransactionPooler(url, sessions)
    await pooler.open_sessions()
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = conninfo_to_dict(url)
    address = make_conninfo(host="127.0.0.1", port=port, user=parts["user"], dbname=parts["dbname"])
    try:
        yield pooler, address
    finally:
        server.close()
        left = await pooler.close()
    assert "".join(left) == "", f"left behind in the pooler's sessions: {left}"
