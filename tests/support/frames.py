"""What tests say on the bare sockets, and what they hear."""

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
SAID_HELLO = json.dumps(HELLO)


async def attach(socket, token: str, **place) -> dict:
    """Attach a viewer; the answer, and under `controlled` who types, which is said next."""
    await socket.send(json.dumps({"type": "attach", "access_token": token, **place}))
    attached = json.loads(await socket.recv())
    controlled = json.loads(await socket.recv())
    assert (attached["type"], controlled["type"]) == ("attached", "controlled")
    return {**attached, "controlled": controlled}


async def closed_with(socket) -> int:
    """Read to the end; the close code."""
    async with asyncio.timeout(60):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code


async def next_message(socket, kind: str) -> dict:
    """The next message of this type; others are passed over."""
    async with asyncio.timeout(60):
        while True:
            message = json.loads(await socket.recv())
            if message["type"] == kind:
                return message
