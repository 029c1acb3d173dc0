"""A server that gives one answer to every request of an agent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from support.connections import closing

from onsembl.agent.enrolment.credentials import Credentials


@asynccontextmanager
async def answering(
    status: str, body: str, kind: str = "text/html", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Credentials]:
    """Credentials for a server that answers everything so, with `tls` encrypted."""

    @closing
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nLocation: https://elsewhere.example/\r\nConnection: close\r\n"
        head += f"Content-Type: {kind}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Credentials(
            server=f"{'http' if tls is None else 'https'}://127.0.0.1:{port}",
            agent_id="x",
            name="one",
            kind="shell",
            access_token="a",
            access_expires_at=0,
            refresh_token="r",
        )
