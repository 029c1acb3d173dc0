"""One connection to another instance, on which that instance relays the terminals of its agents to this one."""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from onsembl.api.auth.instance_tokens import InstanceTokens
from onsembl.api.instances.relayed_terminal import RelayedTerminal
from onsembl.api.reason import reason_of
from onsembl.protocol.field_types import Message
from onsembl.protocol.files import FileRules
from onsembl.protocol.ids import AgentId, Epoch
from onsembl.protocol.messages import BadMessage, encode
from onsembl.protocol.relay_messages import (
    MAX_FRAME_BYTES,
    PING_SECONDS,
    RELAY_PATH,
    RELAY_SUBPROTOCOL,
    AskStatistics,
    Credit,
    LookAt,
    Looked,
    OwnStatistics,
    RelayAnswer,
    StatisticsTold,
    ToPage,
    ToViewers,
    Unwatch,
    Watch,
    Watched,
    WatchEnded,
    decode_answer,
    decode_bytes,
)
from onsembl.protocol.relay_streams import IncomingCredit, RelayError
from onsembl.sql.instances import Owner

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
PONG_SECONDS = 4.0
"""An instance that does not answer a ping for so long counts as lost."""
MAX_WAITING = 1000
"""How many messages wait for the connection before the pages that send more have to wait."""


class RelayFailed(Exception):
    """The other instance cannot be reached, or does not relay; the text says why."""


class RelayChannel:
    """One terminal on the connection. `answered` is set once the owner has answered, `ended` once it sends no more."""

    def __init__(self, number: int, terminal: RelayedTerminal, connection: RelayConnection) -> None:
        self.number = number
        self.terminal = terminal
        self.credit = IncomingCredit()
        self.watched = False
        """Whether the owner has begun to send."""
        self.answered, self.ended = asyncio.Event(), asyncio.Event()
        self.post = connection.post
        self.send = connection.send

    def begin(self, watched: Watched) -> None:
        """The owner begins to send."""
        self.watched = True
        self.answered.set()
        self.terminal.watched(self, Epoch(watched.epoch), watched.attached)

    def end(self) -> None:
        """The owner sends no more on this channel."""
        if self.terminal.channel is self:
            self.terminal.lost()
        self.answered.set()
        self.ended.set()


class RelayConnection:
    """The relaying side of one connection. `run` must run until `closed`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._channels: dict[int, RelayChannel] = {}
        self._numbers = count(1)
        self._questions: dict[UUID, asyncio.Future[Looked | StatisticsTold]] = {}
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.closed = False
        self.received = 0
        """Bytes of terminals that came over this connection."""

    @property
    def idle(self) -> bool:
        """Whether nothing uses the connection."""
        return not self._channels and not self._questions

    def watch(self, terminal: RelayedTerminal, epoch: Epoch) -> RelayChannel:
        """Have the owner send this terminal, from the next byte on. Raises RelayFailed."""
        if self.closed:
            raise RelayFailed("the connection is closed")
        channel = RelayChannel(next(self._numbers), terminal, self)
        self._channels[channel.number] = channel
        self.post(
            Watch(
                channel=channel.number,
                agent_id=terminal.agent_id,
                epoch=epoch,
                stream_id=terminal.stream_id,
                offset=terminal.ring.end if terminal.stream_id is not None else None,
            )
        )
        return channel

    def unwatch(self, channel: RelayChannel) -> None:
        """Have the owner send this terminal no more."""
        if self._channels.pop(channel.number, None) is not None:
            self.post(Unwatch(channel=channel.number))
        channel.end()

    async def look(self, agent_id: AgentId, path: str, rules: FileRules) -> Looked:
        """What the path names on the agent's machine. Raises RelayFailed."""
        looked = await self._ask(LookAt(request_id=uuid4(), agent_id=agent_id, path=path, rules=rules))
        if not isinstance(looked, Looked):
            raise RelayFailed("the instance answers another question")
        return looked

    async def statistics(self) -> OwnStatistics:
        """The statistics of the instance. Raises RelayFailed."""
        told = await self._ask(AskStatistics(request_id=uuid4()))
        if not isinstance(told, StatisticsTold):
            raise RelayFailed("the instance answers another question")
        return told.own

    async def _ask(self, question: LookAt | AskStatistics) -> Looked | StatisticsTold:
        if self.closed:
            raise RelayFailed("the connection is closed")
        answer: asyncio.Future[Looked | StatisticsTold] = asyncio.get_running_loop().create_future()
        self._questions[question.request_id] = answer
        try:
            await self.send(question)
            return await answer
        finally:
            self._questions.pop(question.request_id, None)

    def post(self, message: Message) -> None:
        """Send a message soon, without waiting."""
        self._outbox.put_nowait(message)
        if self._outbox.qsize() > MAX_WAITING:
            self._has_room.clear()

    async def send(self, message: Message) -> None:
        """Send a message; wait while many others wait."""
        await self._has_room.wait()
        self.post(message)

    async def run(self) -> None:
        """Receive until the connection is closed, and end the channels then."""
        writer = asyncio.create_task(self._write(), name="messages to another instance")
        reason = "the connection to the other instance is lost"
        try:
            while True:
                self._receive(await self._socket.recv())
        except ConnectionClosed as error:
            logger.info("A relay's connection was closed: %s", error, extra={"action": "relay_closed"})
        except BadMessage as error:
            reason = str(error)
            logger.warning("A relay's owner sends nonsense: %s", error, extra={"action": "relay_failed"})
        finally:
            self.closed = True
            self._has_room.set()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            channels, self._channels = list(self._channels.values()), {}
            for channel in channels:
                channel.end()
            for question in self._questions.values():
                if not question.done():
                    question.set_exception(RelayFailed(reason))
            await self._socket.close()

    async def _write(self) -> None:
        try:
            while True:
                message = await self._outbox.get()
                await self._socket.send(encode(message))
                if self._outbox.qsize() <= MAX_WAITING:
                    self._has_room.set()
        except ConnectionClosed:  # the reader ends
            return

    def _receive(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            number, offset, data = decode_bytes(frame)
            if (channel := self._channels.get(number)) is not None:
                self._take(channel, offset, data)
            return
        self._apply(decode_answer(frame))

    def _take(self, channel: RelayChannel, offset: int, data: bytes) -> None:
        """Take bytes of a terminal. A stream that does not fit is watched anew; the others go on."""
        try:
            due = channel.credit.take(len(data))
            channel.terminal.take(channel, offset, data)
        except RelayError as error:
            logger.warning("A relayed stream is out of step: %s", error, extra={"action": "relay_failed"})
            self.unwatch(channel)
            return
        self.received += len(data)
        if due:
            self.post(Credit(channel=channel.number, count=due))

    def _apply(self, answer: RelayAnswer) -> None:
        match answer:
            case Watched() as watched:
                if (channel := self._channels.get(watched.channel)) is not None:
                    if watched.epoch < channel.terminal.epoch:  # a past owner, which has yet to learn of it
                        self.unwatch(channel)
                    else:
                        channel.begin(watched)
            case ToViewers() as told:
                if (channel := self._channels.get(told.channel)) is not None:
                    channel.terminal.told(channel, told.message)
            case ToPage() as told:
                channel = self._channels.get(told.channel)
                if channel is not None and (page := channel.terminal.pages.get(told.page)) is not None:
                    page.answered(told.message)
            case WatchEnded() as ended:
                if (channel := self._channels.pop(ended.channel, None)) is not None:
                    channel.end()
            case Looked() | StatisticsTold() as told:
                question = self._questions.get(told.request_id)
                if question is not None and not question.done():
                    question.set_result(told)


async def connect_to(owner: Owner, tokens: InstanceTokens, public_url: str) -> RelayConnection:
    """Connect to another instance. Raises RelayFailed.

    The request names the public URL's host, under which the instance is known, and goes to its own address.
    """
    address = urlsplit(f"//{owner.address}")
    try:
        host, port = address.hostname, address.port
    except ValueError as error:
        raise RelayFailed(f"{owner.address} is no address: {error}") from error
    if host is None or port is None:
        raise RelayFailed(f"{owner.address} has no port")
    try:
        socket = await connect(
            f"ws://{urlsplit(public_url).netloc}{RELAY_PATH}",
            host=host,
            port=port,
            additional_headers={"Authorization": f"Bearer {tokens.sign(owner.instance_id)}"},
            subprotocols=[Subprotocol(RELAY_SUBPROTOCOL)],
            compression=None,
            open_timeout=CONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            max_size=MAX_FRAME_BYTES,
            close_timeout=1.0,
            proxy=None,
            user_agent_header=None,
        )
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise RelayFailed(f"{owner.address} cannot be reached: {reason_of(error)}") from error
    return RelayConnection(socket)
