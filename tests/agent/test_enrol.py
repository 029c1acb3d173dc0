"""What an agent makes of an answer to its refresh token: only the server's own refusal ends anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.enrolment.enrol import CredentialsRejected, ServerUnreachable, log_out, refresh


@asynccontextmanager
async def answering(status: str, body: str, kind: str = "text/html") -> AsyncGenerator[Credentials]:
    """Credentials for a server that answers everything so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nLocation: https://elsewhere.example/\r\nConnection: close\r\n"
        head += f"Content-Type: {kind}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Credentials(
            server=f"http://127.0.0.1:{port}",
            agent_id="x",
            name="one",
            kind="shell",
            access_token="a",
            access_expires_at=0,
            refresh_token="r",
        )


@pytest.mark.parametrize(
    "status", ["301 Moved", "308 Moved", "401 Unauthorized", "403 Forbidden", "404 Not Found", "502 Bad", "200 OK"]
)
@pytest.mark.parametrize("act", [log_out, refresh])
async def test_what_stands_in_between_does_not_speak_for_the_server(act, status):
    """A proxy's redirect, its refusal or its page: the credentials may be good still."""
    async with answering(status, "<html>Please sign in.</html>") as credentials:
        with pytest.raises(ServerUnreachable):
            await act(credentials)


@pytest.mark.parametrize("act", [log_out, refresh])
async def test_the_servers_own_refusal_is_taken(act):
    """401: they are good for nothing any more."""
    problem = '{"status": 401, "detail": "The refresh token is unknown."}'
    async with answering("401 Unauthorized", problem, "application/problem+json") as credentials:
        with pytest.raises(CredentialsRejected, match="is unknown"):
            await act(credentials)
