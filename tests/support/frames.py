"""Messages that tests send and receive on bare sockets."""

from __future__ import annotations

import asyncio
import json

from websockets.exceptions import ConnectionClosed

HELLO = {
    "type": "hello",
    "version": "0",
    "kind": "shell",
    "mode": "exec",
    "host": "here",
    "platform": "test",
    "columns": 80,
    "rows": 24,
}
HELLO_TEXT = json.dumps(HELLO)


async def attach(socket, token: str, **place) -> dict:
    """Attach a viewer. Returns the answer, with the `controlled` message that follows it under `controlled`."""
    await socket.send(json.dumps({"type": "attach", "access_token": token, **place}))
    attached = json.loads(await socket.recv())
    controlled = json.loads(await socket.recv())
    assert (attached["type"], controlled["type"]) == ("attached", "controlled")
    return {**attached, "controlled": controlled}


async def close_code(socket) -> int:
    """Read to the end of the socket, and return its close code."""
    async with asyncio.timeout(60):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code


async def next_message(socket, kind: str) -> dict:
    """The next message of this type; others are skipped."""
    async with asyncio.timeout(60):
        while True:
            message = json.loads(await socket.recv())
            if message["type"] == kind:
                return message


async def greet(socket, **stream) -> dict:
    """Say hello as an agent, with this stream if there is one. Returns the welcome."""
    await socket.send(json.dumps({**HELLO, "stream": stream or None}))
    return await next_message(socket, "welcome")


async def read_bytes(socket, count: int) -> bytes:
    """Read at least so many bytes of a terminal; messages are skipped."""
    seen = b""
    async with asyncio.timeout(60):
        while len(seen) < count:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                seen += frame
    return seen
