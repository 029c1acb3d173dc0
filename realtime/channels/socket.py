"""One client's WebSocket: frames in, replies and pushes out through a bounded queue."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.rates import SlidingWindow, network_of
from onsembl.realtime.channels.center import Center
from onsembl.realtime.channels.channel import Channel
from onsembl.realtime.channels.join import parse_join
from onsembl.realtime.channels.questions import Question
from onsembl.realtime.channels.serializer import BadFrame, Frame, Message, Version, decode, reply
from onsembl.realtime.channels.shared import Shared
from onsembl.realtime.channels.topics import PREFIX
from onsembl.realtime.tokens import BadToken

logger = logging.getLogger(__name__)

FRAMES_AT_ONCE = 32
"""So many of one client's frames are taken before the other clients have their turn."""
CLOSE_SECONDS = 5.0
NORMAL = 1000
RESTART = 1012
TRY_AGAIN = 1013


class ClientSocket:
    """The session of one client; it is the port of its channels."""

    def __init__(self, websocket: WebSocket, version: Version, claims: dict[str, Any], center: Center) -> None:
        self._websocket = websocket
        self._version: Version = version
        self._claims = claims
        self._center = center
        self._limits = center.limits
        self._channels: dict[str, Channel] = {}
        self._asking: dict[Channel, set[asyncio.Task[None]]] = {}
        self._joins = SlidingWindow(self._limits.joins_per_second, self._limits.rate_window)
        self._events = SlidingWindow(self._limits.events_per_second, self._limits.rate_window)
        self._outgoing: deque[str | bytes] = deque()
        self._outgoing_size = 0
        self._something_to_send = asyncio.Event()
        self._closing: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._opened_at = self._heard_at = self._had_channel_at = time.monotonic()
        self.network = network_of(websocket.client.host) if websocket.client is not None else ""
        self.known = "sub" in claims
        """Whether a user's token was shown here."""
        self.timed_out = False
        """Whether none was, in the time there is for it."""

    @property
    def follows_changes(self) -> bool:
        return any(channel in self._center.feed.followers for channel in self._channels.values())

    @property
    def channels(self) -> int:
        return len(self._channels)

    def is_of(self, subject: str) -> bool:
        """Whether a token of this user is in use here."""
        return self._claims.get("sub") == subject or any(
            channel.subject == subject for channel in self._channels.values()
        )

    @property
    def is_a_users(self) -> bool:
        """Whether a token of some user is in use here."""
        return bool(self._claims.get("sub")) or any(channel.subject for channel in self._channels.values())

    def close(self, code: int) -> None:
        """End the session."""
        if not self._closing.done():
            self._closing.set_result(code)

    async def run(self) -> None:
        """Serve the client until it leaves or is cut off."""
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        try:
            await asyncio.wait([reading, writing, self._closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for channel in list(self._channels.values()):
                channel.drop()
            asking = [task for tasks in self._asking.values() for task in tasks]
            for task in (reading, writing, *asking):
                task.cancel()
            results = await asyncio.gather(reading, writing, *asking, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                raise result
        if self._closing.done():
            with suppress(TimeoutError):  # a client that takes nothing does not take the close either
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._websocket.close(self._closing.result())

    def check(self, now: float, unix_time: float) -> None:
        """To be called about once a second: tokens may have expired, or the client may have gone silent."""
        for channel in list(self._channels.values()):
            channel.check(unix_time)
        if self._channels:
            self._had_channel_at = now
        if now - self._heard_at > self._limits.idle or now - self._had_channel_at > self._limits.no_channel:
            self.close(NORMAL)
        if not self.known and now - self._opened_at > self._limits.unknown_seconds:
            self.timed_out = True
            self.close(CloseCode.UNAUTHENTICATED)

    # The port of its channels

    def push(self, message: Message | Shared) -> None:
        """Queue a message; a client that does not take what waits for it is cut off, at no cost to others."""
        shared = message if isinstance(message, Shared) else Shared(message)
        data = shared.encoded(self._version)
        if data is None or self._closing.done():
            return
        self._outgoing.append(data)
        self._outgoing_size += len(data)
        self._something_to_send.set()
        if self._outgoing_size > self._limits.queue_bytes:
            self._center.counters.sockets_cut_off += 1
            logger.warning("A client was too slow and is cut off", extra={"action": "realtime_cut_off"})
            self.close(TRY_AGAIN)

    def refuse(self, refusal: Frame) -> None:
        asyncio.get_running_loop().call_later(self._limits.join_error_backoff, self.push, refusal)

    def follow_changes(self, channel: Channel) -> None:
        async def follow() -> None:
            channel.subscribed(await self._center.feed.subscribe(channel))

        self._run_for(channel, follow())

    def follow_replication(self, channel: Channel) -> None:
        async def follow() -> None:
            try:
                async with asyncio.timeout(self._limits.replication_ready):
                    await self._center.messages.ready()
            except TimeoutError:
                channel.replication_ready(ready=False)
            else:
                channel.replication_ready(ready=True)

        self._run_for(channel, follow())

    def closed(self, channel: Channel) -> None:
        if self._channels.get(channel.topic) is channel:
            del self._channels[channel.topic]
        self._center.feed.unsubscribe(channel)
        for task in self._asking.get(channel, ()):
            if task is not asyncio.current_task():
                task.cancel()

    # Bytes

    async def _write(self) -> None:
        while True:
            while self._outgoing:
                data = self._outgoing.popleft()
                self._outgoing_size -= len(data)
                kind = "bytes" if isinstance(data, bytes) else "text"
                await self._websocket.send({"type": "websocket.send", kind: data})
            self._something_to_send.clear()
            await self._something_to_send.wait()

    async def _read(self) -> None:
        for count in itertools.count():
            if count % FRAMES_AT_ONCE == 0:
                await asyncio.sleep(0)
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event.get("code", 1005))
            self._heard_at = time.monotonic()
            text: str | None = event.get("text")
            data: str | bytes = text if text is not None else event["bytes"]
            try:
                self._take(decode(data, self._version), len(data))
            except BadFrame as error:
                self._center.counters.bad_frames += 1
                logger.info("Dropped a frame: %s", error, extra={"action": "realtime_bad_frame"})

    # Messages

    def _take(self, message: Message, size: int) -> None:
        channel = self._channels.get(message.topic)
        event = message.event if isinstance(message, Frame) else "broadcast"
        if event == "phx_join" and message.topic.startswith(PREFIX):
            self._join(message)
        elif channel is not None:
            self._go_on(channel, channel.receive(message, size, time.monotonic()))
        elif (message.topic == "phoenix" and event == "heartbeat") or event == "phx_leave":
            self.push(reply(message, "ok", {}))
        else:
            self.push(reply(message, "error", {"reason": "unmatched topic"}))

    def _join(self, frame: Message) -> None:
        assert isinstance(frame, Frame)
        if (old := self._channels.get(frame.topic)) is not None:
            old.close()
        if frame.topic == PREFIX:
            return self.refuse(reply(frame, "error", {"reason": "TopicNameRequired: You must provide a topic name"}))
        request = parse_join(frame.payload)
        if request.problems:
            logger.info("A join was not understood: %s", request.problems, extra={"action": "realtime_bad_join"})
        if self._limits.private_only and not request.private:
            return self.refuse(
                reply(frame, "error", {"reason": "PrivateOnly: This project only allows private channels"})
            )
        if not self._joins.add(time.monotonic()):
            self.push(reply(frame, "error", {"reason": "ClientJoinRateLimitReached: Too many joins per second"}))
            return self.close(NORMAL)
        if len(self._channels) >= self._limits.channels_per_socket:
            return self.refuse(reply(frame, "error", {"reason": "ChannelRateLimitReached: Too many channels"}))
        try:
            claims = self._claims if request.token is None else self._center.verify(request.token)
        except BadToken as error:
            return self.refuse(reply(frame, "error", {"reason": f"{error.code}: {error.message}"}))
        self.known = self.known or "sub" in claims
        channel = Channel(
            frame,
            request,
            claims,
            port=self,
            topics=self._center.topics,
            verify=self._center.verify,
            limits=self._limits,
            events=self._events,
        )
        self._channels[frame.topic] = channel
        return self._go_on(channel, channel.open())

    def _go_on(self, channel: Channel, question: Question | None) -> None:
        if question is not None:
            self._run_for(channel, self._answer(channel, question))

    async def _answer(self, channel: Channel, question: Question | None) -> None:
        while question is not None:
            question = channel.answer(await self._center.answer(channel, question))

    def _run_for(self, channel: Channel, work: Coroutine[Any, Any, None]) -> None:
        """In the background, for as long as the channel lives."""
        task = asyncio.create_task(work)
        tasks = self._asking.setdefault(channel, set())
        tasks.add(task)
        task.add_done_callback(lambda done: self._done(channel, done))

    def _done(self, channel: Channel, task: asyncio.Task[None]) -> None:
        tasks = self._asking[channel]
        tasks.discard(task)
        if not tasks:
            del self._asking[channel]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A channel failed", exc_info=error, extra={"action": "realtime_channel_failed"})
            channel.crash()
