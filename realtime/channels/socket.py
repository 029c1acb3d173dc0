"""One client's WebSocket: frames in, replies and pushes out through a bounded queue."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from onsembl.realtime.channels.channel import PREFIX, Channel
from onsembl.realtime.channels.serializer import BadFrame, Frame, Version, decode, encode
from onsembl.realtime.tokens import BadToken

logger = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
QUEUE_FRAMES = 2000
"""A client that is this far behind is cut off; it comes back and reads its state anew."""
MAX_CHANNELS = 100
RESTART = 1012
TRY_AGAIN = 1013


class Center(Protocol):
    """What the sockets share."""

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token. Raises BadToken."""
        ...

    def joined(self, channel: Channel) -> None:
        """The channel follows changes from here on; it is told when they flow."""
        ...

    def left(self, channel: Channel) -> None: ...


class ClientSocket:
    """The session of one client."""

    def __init__(self, websocket: WebSocket, version: Version, claims: dict[str, Any], center: Center) -> None:
        self._websocket = websocket
        self._version: Version = version
        self._claims = claims
        self._center = center
        self._channels: dict[str, Channel] = {}
        self._outgoing: asyncio.Queue[Frame] = asyncio.Queue(QUEUE_FRAMES)
        self._closing: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def follows_changes(self) -> bool:
        return any(channel.follows_changes for channel in self._channels.values())

    def close(self, code: int) -> None:
        """End the session; the client comes back."""
        if not self._closing.done():
            self._closing.set_result(code)

    async def run(self) -> None:
        """Serve the client until it leaves or is cut off."""
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._write()),
            asyncio.create_task(self._watch_expiry()),
        ]
        try:
            await asyncio.wait([*tasks, self._closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for channel in self._channels.values():
                self._center.left(channel)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect | TimeoutError):
                raise result
        if self._closing.done():
            await self._websocket.close(self._closing.result())

    def push(self, frame: Frame) -> None:
        """Queue a frame; a client whose queue is full is cut off, at no cost to others."""
        try:
            self._outgoing.put_nowait(frame)
        except asyncio.QueueFull:
            self.close(TRY_AGAIN)

    async def _write(self) -> None:
        while True:
            await self._websocket.send_text(encode(await self._outgoing.get(), self._version))

    async def _read(self) -> None:
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event.get("code", 1005))
            text = event.get("text")
            if text is None:
                continue
            try:
                self._take(decode(text, self._version))
            except BadFrame as error:
                logger.info("Dropped a frame: %s", error, extra={"action": "realtime_bad_frame"})

    async def _watch_expiry(self) -> None:
        while True:
            soonest = min((c.expires_at for c in self._channels.values()), default=float("inf"))
            await asyncio.sleep(max(0.05, min(1.0, soonest - time.time())))
            for channel in [c for c in self._channels.values() if c.expires_at <= time.time()]:
                past = int(time.time() - channel.expires_at)
                self._shut(channel, f"Token has expired {past} seconds ago")

    def _shut(self, channel: Channel, message: str) -> None:
        channel.system("system", "error", message)
        channel.close()
        self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        del self._channels[channel.topic]
        self._center.left(channel)

    def _reply(self, frame: Frame, status: str, response: dict[str, Any]) -> None:
        payload = {"status": status, "response": response}
        self.push(Frame(frame.topic, "phx_reply", payload, frame.ref, frame.join_ref))

    def _take(self, frame: Frame) -> None:
        if frame.topic == "phoenix":
            if frame.event == "heartbeat":
                self._reply(frame, "ok", {})
            return
        match frame.event:
            case "phx_join":
                self._join(frame)
            case "phx_leave":
                self._leave(frame)
            case _ if frame.topic not in self._channels:
                self._reply(frame, "error", {"reason": "unmatched topic"})
            case "access_token":
                self._renew(self._channels[frame.topic], frame.payload.get("access_token"))
            case _:
                pass  # as the real service does with events that it does not know

    def _join(self, frame: Frame) -> None:
        if not frame.topic.startswith(PREFIX) or frame.topic == PREFIX:
            self._reply(frame, "error", {"reason": "TopicNameRequired: You must provide a topic name"})
            return
        token = frame.payload.get("access_token") or frame.payload.get("user_token")
        claims = self._claims
        if isinstance(token, str) and not token.startswith("sb_"):
            try:
                claims = self._center.verify(token)
            except BadToken as error:
                self._reply(frame, "error", {"reason": f"{error.code}: {error.message}"})
                return
        if (old := self._channels.get(frame.topic)) is not None:
            old.close()
            self._drop(old)
        if len(self._channels) >= MAX_CHANNELS:
            self._reply(frame, "error", {"reason": "ChannelRateLimitReached: Too many channels"})
            return
        channel = Channel(frame.topic, frame.join_ref, claims, self.push)
        config: object = frame.payload.get("config")
        answer = channel.subscribe(config if isinstance(config, dict) else {})  # pyright: ignore[reportUnknownArgumentType]
        self._channels[frame.topic] = channel
        self._reply(frame, "ok", {"postgres_changes": answer})
        if channel.refusal is not None:
            channel.system("postgres_changes", "error", channel.refusal)
        elif channel.follows_changes:
            self._center.joined(channel)

    def _leave(self, frame: Frame) -> None:
        self._reply(frame, "ok", {})
        channel = self._channels.get(frame.topic)
        if channel is not None:
            channel.close()
            self._drop(channel)

    def _renew(self, channel: Channel, token: object) -> None:
        if not isinstance(token, str) or token.startswith("sb_"):
            return
        try:
            channel.authorize(self._center.verify(token))
        except BadToken as error:
            self._shut(channel, error.message)
