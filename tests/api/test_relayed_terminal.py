"""The whole way of relayed bytes without sockets: owners, channels that break, and viewers at another instance."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection

from onsembl.api.instances.relay_connection import RelayChannel, RelayConnection
from onsembl.api.instances.relay_socket import RelaySession, ServedStream
from onsembl.api.instances.relayed_terminal import RelayedTerminal
from onsembl.api.services import Services
from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.terminal import Terminal
from onsembl.api.terminals.viewed_terminal import Size
from onsembl.api.terminals.viewer import Viewer
from onsembl.protocol import relay_streams
from onsembl.protocol.field_types import Message
from onsembl.protocol.ids import AgentId, Epoch, StreamId
from onsembl.protocol.messages import Gap, StreamStarted, encode
from onsembl.protocol.relay_messages import Credit, ToViewers, Unwatch, Watch, Watched
from onsembl.protocol.relay_streams import OutgoingStreams
from onsembl.sql.database import Pool

RING_BYTES = 2**20
WINDOW_BYTES = 4096
SIZE = Size(80, 24)
CHUNK = bytes(range(251))


@pytest.fixture(scope="module", autouse=True)
def small_window():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay_streams, "WINDOW_BYTES", WINDOW_BYTES)
        yield


def content(start: int, end: int) -> bytes:
    """The bytes of the agent's stream."""
    return (CHUNK * ((end - start) // len(CHUNK) + 2))[start % len(CHUNK) :][: end - start]


class Owner:
    """An instance to which the agent has connected, and its end of the connection to the other instance."""

    direct = None

    def __init__(self, stream_id: StreamId, epoch: int, start: int, promised: int) -> None:
        self.epoch = epoch
        self.terminal = Terminal(RING_BYTES, Archiver(cast(Pool, None)), stream_id, start, SIZE)
        self.terminal.ring.prepend(content(0, start))  # from the archive
        self.terminal.promised = promised
        self.services = cast(Services, SimpleNamespace(relays=SimpleNamespace(sent=0)))
        self.connect()

    def connect(self) -> None:
        """A new connection; what was under way on the last one is lost."""
        self.streams = OutgoingStreams()
        self.served: dict[int, ServedStream] = {}
        self.wire: deque[str | bytes] = deque()

    def post(self, message: Message) -> None:
        self.wire.append(encode(message))

    def has_news(self, channel: int) -> None:
        self.streams.has_news(channel)

    def apply(self, message: Message) -> None:
        """What RelaySession does with a message, apart from the archive."""
        match message:
            case Watch():
                self.streams.open(message.channel)
                stream_id = StreamId(message.stream_id) if message.stream_id is not None else None
                viewer = Viewer(self.terminal, stream_id, message.offset, timed=True)
                served = self.served[message.channel] = ServedStream(
                    cast(RelaySession, self), self.services, message.channel, AgentId(uuid4()), self.terminal, viewer
                )
                self.post(Watched(channel=message.channel, epoch=self.epoch, attached=viewer.attached))
                self.post(ToViewers(channel=message.channel, message=viewer.controlled()))
                self.terminal.subscribe(served)
                self.has_news(message.channel)
            case Unwatch():
                self.streams.close(message.channel)
                if (served := self.served.pop(message.channel, None)) is not None:
                    served.end()
            case Credit():
                self.streams.grant(message.channel, message.count)
            case _:
                raise AssertionError(f"{message} is not expected")

    def send(self) -> bool:
        """One turn of the pump; False when nothing is to be sent."""
        while (channel := self.streams.next_turn()) is not None:
            frame = self.served[channel].next() if channel in self.served else None
            if frame is not None:
                self.wire.append(frame if isinstance(frame, bytes) else encode(frame))
                self.has_news(channel)
                return True
        return False


class Page:
    """A viewer at the relaying instance: the bytes that it has had since `start`."""

    def __init__(self, terminal: RelayedTerminal, stream_id: StreamId, start: int) -> None:
        self.viewer, self.start, self.had = Viewer(terminal, stream_id, start), start, b""
        assert self.viewer.attached.mode == "exact" and self.viewer.offset == start
        terminal.subscribe(self)

    def follow(self, start: int, data: bytes) -> None:
        if self.viewer.follow(start, data):
            self.had += data
        else:
            self.wake()

    def wake(self) -> None:
        while (frame := self.viewer.next()) is not None:
            assert not isinstance(frame, Gap | StreamStarted), f"a viewer has lost its place: {frame}"
            self.had += frame if isinstance(frame, bytes) else b""

    def close(self, *_: object) -> None:
        raise AssertionError("a viewer failed")


class Center:
    """The agent, its owners one after the other, and the instance that relays."""

    def __init__(self) -> None:
        self.stream_id = StreamId(uuid4())
        self.written = 0
        self.owner = Owner(self.stream_id, 1, 0, 0)
        self.past: Owner | None = None
        self.terminal = RelayedTerminal(RING_BYTES, AgentId(uuid4()), lambda _: None)
        self.pages: list[Page] = []
        self.links: list[tuple[Owner, RelayConnection]] = []
        """The connections to the owners, of which the last one is used."""
        self.watch(self.owner)
        self.settle()

    @property
    def watched_owner(self) -> Owner:
        return self.links[-1][0]

    def watch(self, owner: Owner) -> None:
        """Begin a connection to an owner."""
        owner.connect()
        connection = RelayConnection(cast(ClientConnection, None))
        self.links.append((owner, connection))
        self.channel: RelayChannel = connection.watch(self.terminal, Epoch(owner.epoch))

    def write(self, count: int) -> None:
        """The agent sends bytes to its owner."""
        self.written += count
        inbox = self.owner.terminal.inbox
        while inbox.end < self.written:
            end = min(self.written, inbox.end + 1000)
            self.owner.terminal.ingest(inbox.end, content(inbox.end, end))

    def write_to_past(self, count: int) -> None:
        """A past owner gets other bytes at the offsets that follow: its connection was not closed yet."""
        if self.past is not None:
            self.past.terminal.ingest(self.past.terminal.inbox.end, b"\xff" * count)

    def move(self, lost: int) -> None:
        """The agent connects elsewhere, and sends again what its past owner had not archived. The relay learns of it
        later."""
        self.past = self.owner
        start = max(0, self.written - lost)
        self.owner = Owner(self.stream_id, self.past.epoch + 1, start, self.written)
        count, self.written = self.written - start, start
        if count:
            self.write(count)

    def learn(self) -> None:
        """The relay hears of the agent's newest connection."""
        if self.terminal.epoch < self.owner.epoch:
            self.terminal.epoch = Epoch(self.owner.epoch)
            self.links[-1][1].unwatch(self.channel)
            self.watch(self.owner)

    def cut(self) -> None:
        """The connection between the instances is lost, with all that is under way."""
        self.channel.end()
        self.watch(self.links.pop()[0])

    def attach(self, back: int) -> None:
        """A viewer comes that has had all but the last bytes."""
        if self.terminal.stream_id is not None:
            place = max(self.terminal.ring.start, self.terminal.ring.end - back)
            self.pages.append(Page(self.terminal, self.stream_id, place))
            self.pages[-1].wake()

    def send(self) -> bool:
        """Each owner sends a frame."""
        return any([owner.send() for owner, _ in self.links])

    def deliver(self) -> bool:
        """A frame of each owner reaches the relay."""
        under_way = [(owner, connection) for owner, connection in self.links if owner.wire]
        for owner, connection in under_way:
            connection._receive(owner.wire.popleft())
        return bool(under_way)

    def answer(self) -> bool:
        """A message reaches each owner."""
        waiting = [(owner, connection) for owner, connection in self.links if not connection._outbox.empty()]
        for owner, connection in waiting:
            owner.apply(connection._outbox.get_nowait())
        return bool(waiting)

    def settle(self) -> None:
        """Everything that can happen happens."""
        while any([self.answer(), self.send(), self.deliver()]):
            pass


steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from([1, 700, WINDOW_BYTES, 3 * WINDOW_BYTES])),
    st.tuples(st.just("write_to_past"), st.integers(1, 300)),
    st.tuples(st.just("move"), st.sampled_from([0, 1, 500, 2 * WINDOW_BYTES])),
    st.tuples(st.just("attach"), st.sampled_from([0, 1, 500, 2 * WINDOW_BYTES])),
    st.tuples(st.sampled_from(["learn", "cut", "send", "deliver", "answer", "settle"])),
)


@given(steps=st.lists(steps, max_size=60))
async def test_each_viewer_has_each_byte_once(steps: list[tuple]):
    """Whatever breaks, and however often the agent moves: no viewer has other bytes than the agent has written, and
    once everything has settled, each has all of them. The bytes that a past owner gets afterwards reach nobody, once
    the move is known."""
    center = Center()
    for name, *arguments in steps:
        if name == "write_to_past" and center.watched_owner is center.past:
            center.learn()
        getattr(center, name)(*arguments)
        under_way = sum(len(frame) for frame in center.watched_owner.wire if isinstance(frame, bytes))
        assert under_way <= 2 * WINDOW_BYTES, "more is under way than the window and the heads of its frames"
    center.learn()
    center.settle()
    for page in center.pages:
        assert page.start + len(page.had) == center.written
        assert page.had == content(page.start, center.written)
