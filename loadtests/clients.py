"""Agents and viewers on picows, a very lean WebSocket client, so that the server is measured and not the client."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from onsembl.protocol.messages import AGENT_SUBPROTOCOL, TERMINAL_SUBPROTOCOL

STAMP = struct.Struct("<Q")
"""The time of sending, in nanoseconds of the monotonic clock, at the start of every chunk."""
OFFSET = struct.Struct(">Q")
_ADDRESSES = itertools.cycle([f"127.0.1.{number}" for number in range(1, 200)])
"""Several local addresses, because the server limits connections from one address."""


def ages(data: bytes, size: int, now: int) -> list[int]:
    """The age of each stamped chunk of `size` bytes, in nanoseconds."""
    return [now - stamp for (stamp,) in struct.iter_unpack(f"<Q{size - STAMP.size}x", data)]


HELLO = {
    "type": "hello",
    "version": "load",
    "kind": "shell",
    "mode": "exec",
    "host": "load",
    "platform": "load",
    "columns": 80,
    "rows": 24,
}


class LoadAgent(WSListener):
    """An agent that sends given bytes. It accepts and ends each command at once; with `busy` it never ends one.

    `on_offer` is called with the text of each offered command.
    """

    def __init__(self, on_offer: Callable[[str], None] | None = None, *, busy: bool = False) -> None:
        self._transport: WSTransport
        self._on_offer = on_offer
        self._busy = busy
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.offset = 0
        self.acknowledged = 0
        self.offers: list[str] = []

    async def connect(self, url: str, access_token: str) -> None:
        """Connect, and wait until the agent is online. Raises OSError or an error of picows."""
        headers = {"Authorization": f"Bearer {access_token}", "Sec-WebSocket-Protocol": AGENT_SUBPROTOCOL}
        address = url.replace("http", "ws", 1) + "/v1/agent"
        await ws_connect(lambda: self, address, extra_headers=headers, websocket_handshake_timeout=30)
        async with asyncio.timeout(30):
            await self.welcomed

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.say(self.hello())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        self.take(json.loads(frame.get_payload_as_bytes()))

    def hello(self) -> dict[str, Any]:
        """The message `hello`."""
        return HELLO

    def take(self, message: dict[str, Any]) -> None:
        """A message from the server."""
        match message["type"]:
            case "welcome":
                self.offset = self.acknowledged = message["resume_offset"]
                self.welcomed.set_result(None)
            case "acknowledged":
                self.acknowledged = message["offset"]
            case "ping":
                self.say({"type": "pong"})
            case "offer":
                self.run(message["command_id"], message["text"])
            case _:
                pass

    def send(self, data: bytes) -> None:
        """Terminal bytes."""
        self._transport.send(WSMsgType.BINARY, OFFSET.pack(self.offset) + data)
        self.offset += len(data)

    def send_stamped(self, pad: bytes) -> None:
        """Send bytes with a time stamp in front."""
        self.send(STAMP.pack(time.monotonic_ns()) + pad)

    def cut(self) -> None:
        """Break the connection without closing it."""
        self._transport.underlying_transport.abort()

    def leave(self) -> None:
        self._transport.disconnect()

    def run(self, command_id: str, text: str) -> None:
        """Accept a command."""
        self.offers.append(command_id)
        if self._on_offer is not None:
            self._on_offer(text)
        now = datetime.now(UTC).isoformat()
        about = {"command_id": command_id, "started_at": now, "output_start": self.offset}
        self.say({"type": "accepted", **about})
        if self._busy:
            return
        self.say({"type": "ended", **about, "outcome": "succeeded", "ended_at": now, "output_end": self.offset})

    def say(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self._transport.send(WSMsgType.TEXT, json.dumps(message).encode())


class LoadViewer(WSListener):
    """A viewer that reads stamped chunks of `size` bytes, and records the age of each in nanoseconds. It takes the
    times of lines as the page does, unless `times` is false."""

    def __init__(
        self, url: str, agent_id: str, access_token: str, size: int, latencies: list[int], *, times: bool = True
    ) -> None:
        self._address = url.replace("http", "ws", 1) + f"/v1/agents/{agent_id}/terminal"
        self._token = access_token
        self._size = size
        self._latencies = latencies
        self._times = times
        self._rest = b""
        self.bytes = 0
        self.gaps = 0
        self.place = 0
        """The offset after the last byte that was read."""
        self.leaving = False
        self.attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: WSTransport

    async def connect(self) -> None:
        """Connect, and wait until the viewer is attached."""
        headers = {"Sec-WebSocket-Protocol": TERMINAL_SUBPROTOCOL}
        await ws_connect(
            lambda: self,
            self._address,
            extra_headers=headers,
            websocket_handshake_timeout=30,
            local_addr=(next(_ADDRESSES), 0) if "//127." in self._address else None,
        )
        async with asyncio.timeout(30):
            await self.attached

    def be_stuck(self) -> None:
        """Stop reading."""
        self._transport.underlying_transport.pause_reading()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.say({"type": "attach", "access_token": self._token, "times": self._times})

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.leaving:
            self.closed()

    def closed(self) -> None:
        """The connection was closed by the server or the network."""
        if not self.attached.done():
            self.attached.set_exception(ConnectionResetError("closed before it was attached"))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            self.read(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            self.hear(json.loads(frame.get_payload_as_bytes()))

    def hear(self, message: dict[str, Any]) -> None:
        """A message from the server."""
        match message["type"]:
            case "attached":
                self.place = message["offset"]
                self.attached.set_result(None)
            case "gap":
                self.place = message["offset"]
                self.gaps += 1
            case "stream_started":
                self.place = message["offset"]
            case "ping":
                self.say({"type": "pong"})
            case _:
                pass

    def say(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self._transport.send(WSMsgType.TEXT, json.dumps(message).encode())

    def leave(self) -> None:
        self.leaving = True
        self._transport.disconnect()

    def read(self, data: bytes) -> None:
        """Terminal bytes."""
        now, size = time.monotonic_ns(), self._size
        self.bytes += len(data)
        self.place += len(data)
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % size
        self._latencies += ages(data[:whole], size, now)
        self._rest = data[whole:]
