"""What the agent says over connections that come and go, with the server's half played by its own state machines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.errors import AgentError
from onsembl.agent.link.dialogue import Conversation
from onsembl.agent.process.terminal import AgentTerminal
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import LimitName
from onsembl.protocol.messages import (
    Acknowledged,
    Cancel,
    Ended,
    EndRecorded,
    Halt,
    HaltLifted,
    Hello,
    Keys,
    KeysTaken,
    Leave,
    Offer,
    Ping,
    Pong,
    Resize,
    SizeApplied,
    StreamTail,
    Welcome,
    decode_from_agent,
    decode_output,
    encode,
)
from onsembl.protocol.states import AgentKind, AgentMode
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.stream import Inbox

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Heard:
    """Orders, written down."""

    def __init__(self) -> None:
        self.orders: list[object] = []
        self.ended: list[Ended] = []
        self.answers: list[Callable[[], None]] = []

    def offer(self, offer: Offer) -> None:
        self.orders.append(offer)

    def take_times(self, times: StopTimeouts) -> None:
        self.orders.append(times)

    def cancel(self, command_id: UUID, limit: LimitName | None) -> None:
        self.orders.append(("cancel", command_id))

    def resize(self, columns: int, rows: int) -> None:
        self.orders.append((columns, rows))

    def type(self, keys: Keys) -> KeysRejection | None:
        self.orders.append(("type", keys.text))
        return "too_much" if keys.text == "too much" else None

    def once_read(self, answer: Callable[[], None]) -> None:
        self.answers.append(answer)

    def recorded(self, command_id: UUID) -> None:
        self.orders.append(("recorded", command_id))

    def halt(self, halt: Halt) -> None:
        self.orders.append(halt)

    def halt_lifted(self, number: int | None) -> None:
        if number is not None:  # else it is what every welcome says that names no halt
            self.orders.append(("lifted", number))

    def leave(self, *, restart: bool) -> None:
        self.orders.append(("leave", restart))

    def hello(self, stream: StreamTail | None) -> Hello:
        return Hello(
            version="1",
            kind=AgentKind.SHELL,
            mode=AgentMode.EXEC,
            host="h",
            platform="p",
            columns=80,
            rows=24,
            stream=stream,
            ended=list(self.ended),
        )


class Server:
    """As much of the server as decides which bytes are new."""

    def __init__(self, heartbeat: float = 30.0) -> None:
        self._heartbeat = heartbeat
        self.stream_id = uuid4()
        self.inbox = Inbox()
        self.data = bytearray()

    def welcome(self, hello: str) -> str:
        said = decode_from_agent(hello)
        assert isinstance(said, Hello)
        if said.stream is not None and said.stream.id == self.stream_id:
            assert said.stream.start <= self.inbox.end <= said.stream.end
        return encode(
            Welcome(
                agent_id=uuid4(),
                name="one",
                epoch=1,
                stream_id=self.stream_id,
                resume_offset=self.inbox.end,
                heartbeat_seconds=self._heartbeat,
                heartbeat_timeout_seconds=self._heartbeat,
            )
        )

    def take(self, frame: bytes) -> None:
        self.data += self.inbox.receive(*decode_output(frame))

    def restart(self) -> None:
        """Another instance, which knows nothing of the stream and begins a new one."""
        self.stream_id, self.inbox = uuid4(), Inbox()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def conversation(heard) -> Conversation:
    return Conversation(AgentTerminal(80, 24), heard)


def connect(conversation: Conversation, server: Server | None = None) -> Server:
    server = server or Server()
    conversation.welcomed(server.welcome(conversation.begin()))
    return server


def ended() -> Ended:
    return Ended(command_id=uuid4(), outcome="succeeded", ended_at=NOW)


def frames(conversation: Conversation) -> list[str | bytes]:
    found: list[str | bytes] = []
    while (frame := conversation.next_frame()) is not None:
        found.append(frame)
    return found


def test_an_end_between_hello_and_welcome_is_said(conversation):
    """The hello was too early to have it, and no other will come as long as the connection holds."""
    server, end = Server(), ended()
    hello = conversation.begin()
    conversation.say(end)
    conversation.welcomed(server.welcome(hello))
    assert [decode_from_agent(frame) for frame in frames(conversation)] == [end]


def test_what_is_said_without_a_connection_is_left_to_the_next_hello(conversation, heard):
    """And is not said twice."""
    conversation.say(ended())
    connect(conversation)
    conversation.end()
    heard.ended.append(ended())
    conversation.say(heard.ended[0])
    said = decode_from_agent(conversation.begin())
    assert isinstance(said, Hello)
    assert said.ended == heard.ended
    assert frames(conversation) == []


def test_messages_go_ahead_of_output(conversation):
    """However much output there is; and output comes in frames that are soon over."""
    connect(conversation)
    conversation._terminal.write(bytes(300_000))
    first = conversation.next_frame()
    conversation.say(Pong())
    second, *rest = frames(conversation)
    assert isinstance(first, bytes)
    assert second == encode(Pong())
    assert max(map(len, [first, *rest])) <= 65536 + 8
    assert conversation.next_frame() is None


def test_someone_is_told_when_there_is_something_to_send(conversation):
    """Output, and messages while there is a connection."""
    told = []
    conversation.on_frame = lambda: told.append(1)
    conversation.say(Ping())
    assert told == []
    conversation._terminal.write(b"x")
    connect(conversation)
    conversation.say(Ping())
    assert told == [1, 1]


def test_orders_are_handed_on_and_answered(conversation, heard):
    """Each to its own; a ping is answered, a size confirmed with the byte from which on it goes."""
    connect(conversation)
    offer, command = Offer(command_id=uuid4(), text="ls"), uuid4()
    halt = Halt(halt_id=uuid4(), number=1, seconds=2.0)
    orders = (Cancel(command_id=command), EndRecorded(command_id=command), halt, HaltLifted(number=1))
    for message in (offer, *orders, Leave(restart=True), Pong()):
        conversation.receive(encode(message))
    conversation._terminal.write(b"12345")
    conversation.receive(encode(Resize(columns=100, rows=30)))
    conversation.receive(encode(Ping()))
    expected = [offer, ("cancel", command), ("recorded", command), halt, ("lifted", 1), ("leave", True), (100, 30)]
    assert heard.orders == expected
    said = [decode_from_agent(frame) for frame in frames(conversation) if isinstance(frame, str)]
    assert said == [SizeApplied(columns=100, rows=30, offset=5), Pong()]


@pytest.mark.parametrize("frame", ["", "{}", '{"type":"offer"}', '{"type":"hello"}', b"\x00" * 20])
def test_what_makes_no_sense_ends_it(conversation, frame):
    """Coming back would only bring the same again: a person has to look."""
    connect(conversation)
    with pytest.raises(AgentError, match="does not understand"):
        conversation.receive(frame)


def test_a_welcome_has_its_place(conversation):
    """First, and only then."""
    with pytest.raises(AgentError, match="version"):
        conversation.welcomed(encode(Pong()))
    server = connect(conversation)
    with pytest.raises(AgentError, match="no place"):
        conversation.receive(server.welcome(conversation.begin()))


def test_a_server_that_claims_too_much_is_not_believed(conversation):
    """Neither bytes that were never sent, nor a place to go on from that there is not."""
    server = connect(conversation)
    conversation._terminal.write(b"abc")
    with pytest.raises(AgentError, match="contradicts"):
        conversation.receive(encode(Acknowledged(offset=1)))
    server.inbox = Inbox(4)
    with pytest.raises(AgentError, match="does not have"):
        conversation.welcomed(encode(Welcome(**_fields(server, 4))))


def _fields(server: Server, offset: int) -> dict:
    return {
        "agent_id": uuid4(),
        "name": "one",
        "epoch": 2,
        "stream_id": server.stream_id,
        "resume_offset": offset,
        "heartbeat_seconds": 30,
        "heartbeat_timeout_seconds": 10,
    }


def test_keys_are_answered_at_the_programs_pace(conversation, heard):
    """And typed once: those that come again meanwhile have their answer already."""
    connect(conversation)
    page = uuid4()
    first, second = (Keys(client_id=page, seq=seq, text=text) for seq, text in ((1, "ls"), (2, "too much")))
    conversation.receive(encode(first))
    conversation.receive(encode(second))
    assert frames(conversation) == []
    for answer in heard.answers:
        answer()
    answers = [KeysTaken(client_id=page, seq=1), KeysTaken(client_id=page, seq=2, refused="too_much")]
    assert [decode_from_agent(frame) for frame in frames(conversation)] == answers
    connect(conversation)
    conversation.receive(encode(first))
    assert [decode_from_agent(frame) for frame in frames(conversation)] == answers[:1]
    assert heard.orders == [("type", "ls"), ("type", "too much")]


def test_it_is_idle_when_the_server_has_everything(conversation):
    """Sent is not enough."""
    server = connect(conversation)
    assert conversation.idle
    conversation._terminal.write(b"abc")
    for frame in frames(conversation):
        server.take(frame)
    assert not conversation.idle
    conversation.receive(encode(Acknowledged(offset=3)))
    assert conversation.idle
    assert conversation.taken == 1


acts = st.lists(
    st.tuples(st.just("write"), st.binary(min_size=1, max_size=20))
    | st.tuples(st.sampled_from(["send", "lose", "acknowledge", "cut", "restart"]), st.none()),
    max_size=60,
)


@given(acts)
def test_every_byte_arrives_once_and_in_order_over_links_that_break(acts):
    """Frames that are lost, cuts at any time, and servers that begin anew."""
    conversation, server, written = Conversation(AgentTerminal(80, 24), Heard()), Server(), bytearray()
    connect(conversation, server)
    lost = False
    arrived = bytearray()
    for act, data in [*acts, ("cut", None), ("send", None), ("send", None)]:
        match act:
            case "write":
                written += data
                conversation._terminal.write(data)
            case "send" | "lose":
                # On one link what is lost is lost with all that follows.
                lost = lost or act == "lose"
                for frame in frames(conversation):
                    if not lost:
                        server.take(frame)
            case "acknowledge":
                conversation.receive(encode(Acknowledged(offset=server.inbox.end)))
            case "cut" | "restart":
                conversation.end()
                if act == "restart":
                    # What it had taken and not acknowledged is gone with it, and comes again.
                    kept = conversation._terminal.outbox.start
                    arrived += server.data[: len(server.data) - (server.inbox.end - kept)]
                    server.restart()
                    server.data = bytearray()
                connect(conversation, server)
                lost = False
    assert arrived + server.data == written
