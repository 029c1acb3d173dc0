"""The agent's connection: made again whenever it breaks, with nothing lost between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from pathlib import Path
from typing import Protocol
from uuid import UUID

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from onsembl.agent import credentials as store
from onsembl.agent.credentials import Credentials
from onsembl.agent.enrolment import ServerUnreachable, refresh
from onsembl.agent.errors import AgentError
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.close_codes import CloseCode, is_permanent
from onsembl.protocol.heartbeat import Heartbeat
from onsembl.protocol.messages import (
    AGENT_SUBPROTOCOL,
    FIRST_MESSAGE_SECONDS,
    MAX_MESSAGE_BYTES,
    MAX_OUTPUT_BYTES,
    Acknowledged,
    BadMessage,
    Cancel,
    EndRecorded,
    Hello,
    Message,
    Offer,
    Ping,
    Pong,
    Resize,
    Resized,
    StreamTail,
    Welcome,
    decode_from_server,
    encode,
    encode_output,
)
from onsembl.protocol.stream import StreamError

logger = logging.getLogger(__name__)

FRESH_SECONDS = 30.0
STABLE_SECONDS = 30.0
"""A connection that held this long was a good one: the next failure waits briefly again."""


class Orders(Protocol):
    """What the connection hands on, and what it asks for when it says hello."""

    def offer(self, offer: Offer) -> None: ...
    def cancel(self, command_id: UUID) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def recorded(self, command_id: UUID) -> None: ...
    def hello(self, stream: StreamTail | None) -> Hello: ...


class AgentConnection:
    """Keeps the agent connected until it is told to stop or a person has to act."""

    def __init__(self, folder: Path, credentials: Credentials, terminal: AgentTerminal, orders: Orders) -> None:
        self._folder = folder
        self._credentials = credentials
        self._terminal = terminal
        self._orders = orders
        self._stream_id: UUID | None = None
        self._control: deque[Message] = deque()
        self._something = asyncio.Event()
        self._connected = False
        self._backoff = Backoff()
        terminal.on_output = self._something.set

    def send(self, message: Message) -> None:
        """Send a message ahead of output; while there is no connection it is dropped, for hello says it all."""
        if self._connected:
            self._control.append(message)
            self._something.set()

    @property
    def idle(self) -> bool:
        """Whether the server has everything."""
        return not self._control and self._terminal.outbox.start == self._terminal.outbox.end

    async def run(self) -> None:
        """Stay connected until cancelled. Raises AgentError when only a person can help."""
        while True:
            began = time.monotonic()
            try:
                await self._connect_once()
            except ServerUnreachable as error:
                logger.warning("%s", error, extra={"action": "server_unreachable"})
            except (OSError, TimeoutError, WebSocketException) as error:
                if self._obey(error):
                    continue
                logger.warning("No connection: %s", error, extra={"action": "disconnected"})
            if time.monotonic() - began > STABLE_SECONDS:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next_delay())

    def _obey(self, error: Exception) -> bool:
        """Whether to come back at once, with a new token. Raises AgentError when coming back is pointless."""
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            if status == 401:
                self._credentials = _stale(self._credentials)
                return True
            if status in (400, 403, 404):
                raise AgentError(f"The server refuses the connection ({status}): {_text(error)}") from error
        if isinstance(error, ConnectionClosed) and error.rcvd is not None:
            code, reason = error.rcvd.code, error.rcvd.reason
            if code == CloseCode.TOKEN_EXPIRED:
                self._credentials = _stale(self._credentials)
                return True
            if is_permanent(code):
                raise AgentError(f"The server ended the connection for good ({code}): {reason}") from error
        return False

    async def _connect_once(self) -> None:
        if not self._credentials.fresh_for(FRESH_SECONDS):
            self._credentials = await refresh(self._credentials)
            store.save(self._folder, self._credentials)
        url = self._credentials.server.replace("http", "ws", 1) + "/v1/agent"
        async with connect(
            url,
            additional_headers={"Authorization": f"Bearer {self._credentials.access_token}"},
            subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ping_interval=None,
            open_timeout=15,
            close_timeout=5,
            user_agent_header=None,
        ) as websocket:
            welcome = await self._greet(websocket)
            heartbeat = Heartbeat(welcome.heartbeat_seconds, welcome.heartbeat_timeout_seconds, now=time.monotonic())
            logger.info("Connected as %s", welcome.name, extra={"action": "connected", "epoch": welcome.epoch})
            tasks = [
                asyncio.create_task(self._write(websocket), name="agent's writer"),
                asyncio.create_task(self._beat(websocket, heartbeat), name="agent's heartbeat"),
            ]
            try:
                await self._read(websocket, heartbeat)
            finally:
                self._connected = False
                for task in tasks:
                    task.cancel()
                # A link that broke under the writer breaks under the reader too, who tells of it.
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _greet(self, websocket: ClientConnection) -> Welcome:
        outbox = self._terminal.outbox
        stream = None
        if self._stream_id is not None:
            stream = StreamTail(id=self._stream_id, start=outbox.start, end=outbox.end)
        await websocket.send(encode(self._orders.hello(stream)))
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS * 2):
            welcome = _decode(await websocket.recv())
        if not isinstance(welcome, Welcome):
            raise AgentError("The server does not speak this version of the protocol.")
        if self._stream_id not in (None, welcome.stream_id):
            # The server begins a new stream: what it has not taken of the old one comes first in the new.
            outbox.renumber()
        self._stream_id = welcome.stream_id
        if welcome.resume_offset > outbox.start:
            self._backoff.reset()  # this server takes what we have: soon back after a cut
        self._terminal.resume(welcome.resume_offset)
        self._control.clear()
        self._connected = True
        self._something.set()
        return welcome

    async def _write(self, websocket: ClientConnection) -> None:
        """Control messages first, then output, in frames that never keep a message waiting for long."""
        outbox = self._terminal.outbox
        while True:
            while self._control:
                await websocket.send(encode(self._control.popleft()))
            frame = outbox.next_frame(MAX_OUTPUT_BYTES)
            if frame is not None:
                await websocket.send(encode_output(*frame))
            elif not self._control:
                self._something.clear()
                await self._something.wait()

    async def _read(self, websocket: ClientConnection, heartbeat: Heartbeat) -> None:
        while True:
            frame = await websocket.recv()
            heartbeat.received(time.monotonic())
            self._take(_decode(frame))

    def _take(self, message: Message) -> None:
        match message:
            case Acknowledged():
                try:
                    self._terminal.acknowledged(message.offset)
                    self._backoff.reset()
                except StreamError as error:
                    raise AgentError(f"The server contradicts itself: {error}") from error
            case Offer():
                self._orders.offer(message)
            case Cancel():
                self._orders.cancel(message.command_id)
            case EndRecorded():
                self._orders.recorded(message.command_id)
            case Resize():
                self._orders.resize(message.columns, message.rows)
                self.send(Resized(columns=message.columns, rows=message.rows))
            case Ping():
                self.send(Pong())
            case _:
                pass

    async def _beat(self, websocket: ClientConnection, heartbeat: Heartbeat) -> None:
        while True:
            await asyncio.sleep(max(0.0, heartbeat.deadline - time.monotonic()))
            match heartbeat.poll(time.monotonic()):
                case "ping":
                    self.send(Ping())
                case "lost":
                    websocket.transport.abort()
                    return
                case None:
                    pass


def _stale(credentials: Credentials) -> Credentials:
    return Credentials(
        server=credentials.server,
        agent_id=credentials.agent_id,
        name=credentials.name,
        kind=credentials.kind,
        access_token=credentials.access_token,
        access_expires_at=0.0,
        refresh_token=credentials.refresh_token,
    )


def _decode(frame: str | bytes) -> Message:
    try:
        return decode_from_server(frame)
    except BadMessage as error:
        raise AgentError(f"The server says what this version does not understand: {error}") from error


def _text(error: InvalidStatus) -> str:
    return (error.response.body or b"").decode(errors="replace")[:300]
