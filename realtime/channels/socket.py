"""One client's WebSocket: reads frames, and sends replies and pushes through a bounded queue."""

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
from onsembl.realtime.channels.channel import Channel
from onsembl.realtime.channels.join import parse_join
from onsembl.realtime.channels.queries import Query
from onsembl.realtime.channels.serializer import (
    BadFrame,
    EncodedFrame,
    Frame,
    Message,
    SharedMessage,
    Version,
    decode,
    reply,
    size_of,
)
from onsembl.realtime.channels.server import RealtimeServer
from onsembl.realtime.channels.topics import PREFIX
from onsembl.realtime.tokens import BadToken, is_anonymous

logger = logging.getLogger(__name__)

FRAMES_AT_ONCE = 32
"""How many frames of one client are read before the other clients have their turn."""
CLOSE_SECONDS = 5.0
"""How long the close of a socket may take."""
NORMAL_CLOSURE = 1000


class ClientSocket:
    """One client's session; the transport of its channels."""

    def __init__(self, websocket: WebSocket, version: Version, claims: dict[str, Any], server: RealtimeServer) -> None:
        self._websocket = websocket
        self._version: Version = version
        self._claims = claims
        self._server = server
        self._limits = server.limits
        self._channels: dict[str, Channel] = {}
        self._tasks: dict[Channel, set[asyncio.Task[None]]] = {}
        self._joins = SlidingWindow(self._limits.joins_per_second, self._limits.rate_window)
        self._events = SlidingWindow(self._limits.events_per_second, self._limits.rate_window)
        self._outgoing: deque[tuple[str, EncodedFrame]] = deque()
        """The frames to send, with their topics."""
        self._outgoing_bytes = 0
        self._wake_writer = asyncio.Event()
        self._closing: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._opened_at = self._received_at = self._had_channel_at = time.monotonic()
        self.network = network_of(websocket.client.host) if websocket.client is not None else ""
        self.authenticated = not is_anonymous(claims)
        """Whether the client has shown a user's token or the secret key."""
        self.timed_out = False
        """Whether the client showed no user's token in time."""

    @property
    def has_subscriptions(self) -> bool:
        """Whether one of the channels subscribes to changes."""
        return any(channel in self._server.feed.subscribers for channel in self._channels.values())

    def has_user(self, subject: str) -> bool:
        """Whether a token of this user is in use."""
        return self._claims.get("sub") == subject or any(
            channel.subject == subject for channel in self._channels.values()
        )

    @property
    def has_any_user(self) -> bool:
        """Whether a user's token is in use."""
        return bool(self._claims.get("sub")) or any(channel.subject for channel in self._channels.values())

    def close(self, code: int) -> None:
        """End the session with this close code."""
        if not self._closing.done():
            self._closing.set_result(code)

    async def run(self) -> None:
        """Serve the client until the client leaves or `close` is called."""
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        try:
            await asyncio.wait([reading, writing, self._closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for channel in list(self._channels.values()):
                channel.drop()
            channel_tasks = [task for tasks in self._tasks.values() for task in tasks]
            for task in (reading, writing, *channel_tasks):
                task.cancel()
            results = await asyncio.gather(reading, writing, *channel_tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                raise result
        if self._closing.done():
            with suppress(TimeoutError):  # A client that reads nothing does not read the close frame either.
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._websocket.close(self._closing.result())

    def check(self, now: float, unix_time: float) -> None:
        """Close channels whose tokens have expired, and the session when it is idle. Call it about once a second."""
        for channel in list(self._channels.values()):
            channel.check(unix_time)
        if self._channels:
            self._had_channel_at = now
        if now - self._received_at > self._limits.idle or now - self._had_channel_at > self._limits.no_channel:
            self.close(NORMAL_CLOSURE)
        if not self.authenticated and now - self._opened_at > self._limits.authentication_seconds:
            self.timed_out = True
            self.close(CloseCode.UNAUTHENTICATED)

    # The transport of the channels

    def push(self, message: Message | SharedMessage) -> None:
        """Queue a message. A client that reads too slowly delays no other client: what waits for it is dropped, and its
        channels fail, so that it joins them again and reads its state anew once it has caught up."""
        shared = message if isinstance(message, SharedMessage) else SharedMessage(message)
        frame = shared.encoded(self._version)
        if frame is None or self._closing.done():
            return
        self._outgoing.append((shared.topic, frame))
        self._outgoing_bytes += frame.size
        self._wake_writer.set()
        if self._outgoing_bytes > self._limits.queue_bytes and self._channels:
            self._drop_outgoing()

    def _drop_outgoing(self) -> None:
        """Drop what waits for the client on its channels, and let these fail."""
        self._server.counters.sockets_lagging += 1
        logger.warning("A client reads too slowly: its channels start anew", extra={"action": "realtime_lagging"})
        self._outgoing = deque(entry for entry in self._outgoing if not entry[0].startswith(PREFIX))
        self._outgoing_bytes = sum(frame.size for _, frame in self._outgoing)
        for channel in list(self._channels.values()):
            channel.crash()

    def reject_join(self, reply: Frame) -> None:
        asyncio.get_running_loop().call_later(self._limits.join_error_backoff, self.push, reply)

    def subscribe_changes(self, channel: Channel) -> None:
        async def subscribe() -> None:
            channel.subscribed(await self._server.feed.subscribe(channel))

        self._run_for(channel, subscribe())

    def await_replication(self, channel: Channel) -> None:
        async def wait() -> None:
            try:
                async with asyncio.timeout(self._limits.replication_ready):
                    await self._server.database_broadcasts.ready()
            except TimeoutError:
                channel.replication_ready(ready=False)
            else:
                channel.replication_ready(ready=True)

        self._run_for(channel, wait())

    def remove(self, channel: Channel) -> None:
        if self._channels.get(channel.topic) is channel:
            del self._channels[channel.topic]
        self._server.feed.unsubscribe(channel)
        for task in self._tasks.get(channel, ()):
            if task is not asyncio.current_task():
                task.cancel()

    # Frames

    async def _write(self) -> None:
        while True:
            while self._outgoing:
                _, frame = self._outgoing.popleft()
                self._outgoing_bytes -= frame.size
                kind = "bytes" if isinstance(frame.data, bytes) else "text"
                await self._websocket.send({"type": "websocket.send", kind: frame.data})
            self._wake_writer.clear()
            await self._wake_writer.wait()

    async def _read(self) -> None:
        for count in itertools.count():
            if count % FRAMES_AT_ONCE == 0:
                await asyncio.sleep(0)
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event.get("code", 1005))
            self._received_at = time.monotonic()
            text: str | None = event.get("text")
            data: str | bytes = text if text is not None else event["bytes"]
            try:
                self._handle(decode(data, self._version), size_of(data))
            except BadFrame as error:
                self._server.counters.bad_frames += 1
                logger.info("Dropped a frame: %s", error, extra={"action": "realtime_bad_frame"})

    # Messages

    def _handle(self, message: Message, size: int) -> None:
        channel = self._channels.get(message.topic)
        event = message.event if isinstance(message, Frame) else "broadcast"
        if event == "phx_join" and message.topic.startswith(PREFIX):
            self._join(message)
        elif channel is not None:
            self._run_queries(channel, channel.receive(message, size, time.monotonic()))
        elif (message.topic == "phoenix" and event == "heartbeat") or event == "phx_leave":
            self.push(reply(message, "ok", {}))
        else:
            self.push(reply(message, "error", {"reason": "unmatched topic"}))

    def _join(self, frame: Message) -> None:
        assert isinstance(frame, Frame)
        if (old := self._channels.get(frame.topic)) is not None:
            old.close()
        if frame.topic == PREFIX:
            return self._reject(frame, "TopicNameRequired: You must provide a topic name")
        request = parse_join(frame.payload)
        if request.problems:
            logger.info("Fields of a join were ignored: %s", request.problems, extra={"action": "realtime_bad_join"})
        if self._limits.private_only and not request.private:
            return self._reject(frame, "PrivateOnly: This project only allows private channels")
        if not self._joins.add(time.monotonic()):
            self.push(reply(frame, "error", {"reason": "ClientJoinRateLimitReached: Too many joins per second"}))
            return self.close(NORMAL_CLOSURE)
        if len(self._channels) >= self._limits.channels_per_socket:
            return self._reject(frame, "ChannelRateLimitReached: Too many channels")
        try:
            claims = self._claims if request.token is None else self._server.verify(request.token)
        except BadToken as error:
            return self._reject(frame, f"{error.code}: {error.message}")
        self.authenticated = self.authenticated or not is_anonymous(claims)
        channel = Channel(
            frame,
            request,
            claims,
            transport=self,
            topics=self._server.topics,
            verify=self._server.verify,
            limits=self._limits,
            events=self._events,
            network=self.network,
        )
        self._channels[frame.topic] = channel
        return self._run_queries(channel, channel.join())

    def _reject(self, frame: Frame, reason: str) -> None:
        self.reject_join(reply(frame, "error", {"reason": reason}))

    def _run_queries(self, channel: Channel, query: Query | None) -> None:
        """Run the query of a channel, and those that follow from its result."""

        async def run(query: Query | None) -> None:
            while query is not None:
                query = channel.resume(await self._server.run_query(channel, query))

        if query is not None:
            self._run_for(channel, run(query))

    def _run_for(self, channel: Channel, work: Coroutine[Any, Any, None]) -> None:
        """Run the work as a task that ends with the channel."""
        task = asyncio.create_task(work)
        tasks = self._tasks.setdefault(channel, set())
        tasks.add(task)
        task.add_done_callback(lambda done: self._task_done(channel, done))

    def _task_done(self, channel: Channel, task: asyncio.Task[None]) -> None:
        tasks = self._tasks[channel]
        tasks.discard(task)
        if not tasks:
            del self._tasks[channel]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A channel failed", exc_info=error, extra={"action": "realtime_channel_failed"})
            channel.crash()
