"""The agent's session across reconnects, with the server's half played by the server's own state machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from onsembl.agent.errors import CannotWrite
from onsembl.agent.link.outbox import Outbox
from onsembl.agent.link.session import ProtocolFault, ServerSession
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.attention_messages import Deny
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import LimitName
from onsembl.protocol.messages import (
    Acknowledged,
    AgentProblem,
    Answer,
    Cancel,
    Ended,
    EndRecorded,
    Halt,
    HaltLifted,
    Hello,
    Keys,
    KeysTaken,
    Leave,
    Message,
    Offer,
    OpenRequests,
    Ping,
    Pong,
    Resize,
    SizeApplied,
    Steps,
    StepsRecorded,
    StreamTail,
    Welcome,
    decode_from_agent,
    decode_output,
    encode,
)
from onsembl.protocol.states import AgentKind, AgentMode
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.stream import Inbox
from onsembl.protocol.turn_steps import Step

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Handler:
    """A command handler that records its calls."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.ended: list[Ended] = []
        self.answers: list[Callable[[], None]] = []
        self.steps: deque[Steps] = deque()
        self.resent = 0
        self.problem: str | None = None
        self.requests: list[UUID] = []

    def offer(self, offer: Offer) -> None:
        if self.problem is not None:
            raise CannotWrite(self.problem)
        self.calls.append(offer)

    def fail(self, command_id: UUID, error: str) -> None:
        self.calls.append(("failed", command_id, error))

    def set_stop_timeouts(self, timeouts: StopTimeouts) -> None:
        self.calls.append(timeouts)

    def cancel(self, command_id: UUID, limit: LimitName | None) -> None:
        self.calls.append(("cancel", command_id))

    def resize(self, columns: int, rows: int) -> None:
        self.calls.append((columns, rows))

    def type(self, keys: Keys) -> KeysRejection | None:
        self.calls.append(("type", keys.text))
        return "too_much" if keys.text == "too much" else None

    def when_read(self, answer: Callable[[], None]) -> None:
        self.answers.append(answer)

    def clock_after_welcome(self, *, server_takes: bool) -> list[Message]:
        return []

    def lines_after_welcome(self, *, server_takes: bool) -> None:
        self.takes_lines = server_takes

    def requests_after_welcome(self, *, server_takes: bool) -> list[Message]:
        return [OpenRequests(requests=self.requests)] if server_takes else []

    def answer(self, answer: Answer) -> None:
        self.calls.append(answer)

    def end_recorded(self, command_id: UUID) -> None:
        self.calls.append(("recorded", command_id))

    def recall(self, command_id: UUID) -> None:
        self.calls.append(("recall", command_id))

    def next_steps(self) -> Steps | None:
        return self.steps.popleft() if self.steps else None

    def resend_steps(self) -> None:
        self.resent += 1

    def steps_recorded(self, command_id: UUID, through: int) -> None:
        self.calls.append(("steps", command_id, through))

    def halt(self, halt: Halt) -> None:
        self.calls.append(halt)

    def halt_lifted(self, number: int | None) -> None:
        if number is not None:  # None comes with each welcome without a halt
            self.calls.append(("lifted", number))

    def leave(self, *, restart: bool) -> None:
        self.calls.append(("leave", restart))

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
            problem=self.problem,
        )


class Server:
    """The part of the server that decides which bytes are new."""

    def __init__(self, heartbeat: float = 30.0) -> None:
        self._heartbeat = heartbeat
        self.version: str | None = None
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
                version=self.version,
            )
        )

    def take(self, frame: bytes) -> None:
        self.data += self.inbox.receive(*decode_output(frame))

    def restart(self) -> None:
        """Become another instance, which does not know the stream and begins a new one."""
        self.stream_id, self.inbox = uuid4(), Inbox()


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def session(terminal, handler) -> ServerSession:
    return ServerSession(terminal, handler)


def connect(session: ServerSession, server: Server | None = None) -> Server:
    server = server or Server()
    session.receive_welcome(server.welcome(session.connect()))
    return server


def ended() -> Ended:
    return Ended(command_id=uuid4(), outcome="succeeded", ended_at=NOW)


def frames(session: ServerSession) -> list[str | bytes]:
    found: list[str | bytes] = []
    while (frame := session.next_frame()) is not None:
        found.append(frame)
    return found


def test_an_end_between_hello_and_welcome_is_sent(session):
    """The hello was too early to have it, and the next hello comes only after a reconnect."""
    server, end = Server(), ended()
    hello = session.connect()
    session.send(end)
    session.receive_welcome(server.welcome(hello))
    assert [decode_from_agent(frame) for frame in frames(session)] == [end]


def test_a_message_without_a_connection_is_left_to_the_next_hello(session, handler):
    """The end that the hello has is not sent again."""
    session.send(ended())
    connect(session)
    session.disconnected()
    handler.ended.append(ended())
    session.send(handler.ended[0])
    said = decode_from_agent(session.connect())
    assert isinstance(said, Hello)
    assert said.ended == handler.ended
    assert frames(session) == []


def test_messages_are_sent_before_output(session):
    """Output is sent in short frames, so that a message waits behind one of them at most."""
    connect(session)
    session._terminal.write(bytes(300_000))
    first = session.next_frame()
    session.send(Pong())
    second, *rest = frames(session)
    assert isinstance(first, bytes)
    assert second == encode(Pong())
    assert max(map(len, [first, *rest])) <= 65536 + 8
    assert session.next_frame() is None


def test_steps_are_sent_to_a_server_that_takes_them(session, handler):
    """Steps come after messages and before output; a server of an earlier release gets none. A new connection sends
    the batch on its way again."""
    batch = Steps(
        command_id=uuid4(),
        through=1,
        steps=[
            Step(number=1, revision=1, kind="notice", status="completed", started_at=NOW, output_start=0, output_end=0)
        ],
    )
    server = Server()
    for takes, expected in ((False, [encode(Pong())]), (True, [encode(Pong()), encode(batch)])):
        handler.steps = deque([batch])
        session.connect()
        session.receive_welcome(encode(Welcome(**_fields(server, 0), takes_steps=takes)))
        session.send(Pong())
        session._terminal.write(b"x")
        sent = frames(session)
        assert [frame for frame in sent if isinstance(frame, str)] == expected
        assert isinstance(sent[-1], bytes)
    assert handler.resent == 2
    session.receive(encode(StepsRecorded(command_id=batch.command_id, through=1)))
    assert handler.calls == [("steps", batch.command_id, 1)]


def test_open_requests_follow_the_welcome(session, handler):
    """A server that takes them is told of all, and its answers reach the handler. One of an earlier release is told
    nothing."""
    server = Server()
    handler.requests = [uuid4(), uuid4()]
    for takes in (False, True):
        session.connect()
        session.receive_welcome(encode(Welcome(**_fields(server, 0), takes_requests=takes)))
        told = [OpenRequests(requests=handler.requests)] if takes else []
        assert [decode_from_agent(frame) for frame in frames(session)] == told
    answer = Answer(request_id=uuid4(), command_id=uuid4(), digest="0" * 64, decision=Deny(), by="anna")
    session.receive(encode(answer))
    assert handler.calls == [answer]


def test_a_problem_is_told_to_a_server_that_takes_it(session, handler):
    """The hello has the problem at that time. Each change is told once; what changes before the welcome, after it. An
    offer is not taken then, nor one that was made before the server knew the end, and the connection stays."""
    server, offer = Server(), Offer(command_id=uuid4(), text="ls")
    handler.problem = "full"
    hello = session.connect()
    assert decode_from_agent(hello).problem == "full"
    handler.problem = None
    session.problem_changed()
    assert frames(session) == []
    session.receive_welcome(encode(Welcome(**_fields(server, 0), takes_problems=True)))
    handler.problem = "full again"
    session.problem_changed()
    session.problem_changed()
    session.receive(encode(offer))
    handler.problem = None
    session.problem_changed()
    for problems in (0, 2, 3):
        session.receive(encode(replace(offer, problems=problems)))
    told = [AgentProblem(problem=problem, number=n) for n, problem in enumerate((None, "full again", None), 1)]
    assert [decode_from_agent(frame) for frame in frames(session)] == told
    assert handler.calls == [replace(offer, problems=3)]


def test_a_problem_is_not_told_to_a_server_of_an_earlier_release(session, handler):
    """It would close the connection. The agent leaves at an offer, so that the queue waits."""
    connect(session)
    handler.problem = "full"
    session.problem_changed()
    assert frames(session) == []
    with pytest.raises(CannotWrite, match="full"):
        session.receive(encode(Offer(command_id=uuid4(), text="ls")))


def test_on_frame_is_called_for_output_and_messages(session):
    """Messages count only while there is a connection."""
    told = []
    session.on_frame = lambda: told.append(1)
    session.send(Ping())
    assert told == []
    session._terminal.write(b"x")
    connect(session)
    session.send(Ping())
    assert told == [1, 1]


def test_the_servers_messages_reach_the_handler(session, handler):
    """A ping is answered, and a size is confirmed with the offset from which on it holds."""
    connect(session)
    offer, command = Offer(command_id=uuid4(), text="ls"), uuid4()
    halt = Halt(halt_id=uuid4(), number=1, seconds=2.0)
    orders = (Cancel(command_id=command), EndRecorded(command_id=command), halt, HaltLifted(number=1))
    for message in (offer, *orders, Leave(restart=True), Pong()):
        session.receive(encode(message))
    session._terminal.write(b"12345")
    session.receive(encode(Resize(columns=100, rows=30)))
    session.receive(encode(Ping()))
    expected = [offer, ("cancel", command), ("recorded", command), halt, ("lifted", 1), ("leave", True), (100, 30)]
    assert handler.calls == expected
    said = [decode_from_agent(frame) for frame in frames(session) if isinstance(frame, str)]
    assert said == [SizeApplied(columns=100, rows=30, offset=5), Pong()]


UNKNOWN = ["", "{}", '{"type":"offer"}', '{"type":"hello"}', b"\x00" * 20, '{"type":"offer","x":' * 3000, "\ud800"]


@pytest.mark.parametrize("frame", UNKNOWN)
def test_an_unknown_message_changes_nothing(session, handler, frame):
    """A newer server may send it; the connection goes on."""
    connect(session)
    before = list(handler.calls)
    session.receive(frame)
    assert handler.calls == before
    session.receive(encode(Ping()))
    assert [decode_from_agent(frame) for frame in frames(session)] == [Pong()]


def test_a_command_that_is_not_understood_fails(session, handler):
    """The server means something that this version of the agent does not know: the command ends, its queue goes on."""
    connect(session)
    command = uuid4()
    session.receive(f'{{"type":"offer","command_id":"{command}","text":"x","limits":{{"wall_seconds":"soon"}}}}')
    kind, failed, error = handler.calls[-1]
    assert (kind, failed) == ("failed", command)
    assert "does not understand" in error


class Broken(Handler):
    """A command handler of which every method fails."""

    def __getattribute__(self, name: str) -> object:
        if name in ("hello", "ended", "problem", "resend_steps", "resent"):
            return object.__getattribute__(self, name)
        raise ValueError(name)


def test_a_handler_that_fails_harms_one_message(terminal):
    """Keys are answered all the same, for their page waits."""
    handler = Broken()
    session = ServerSession(terminal, handler)
    session.connect()
    command = uuid4()
    halt = Halt(halt_id=uuid4(), number=1, seconds=5.0)
    keys = Keys(client_id=uuid4(), seq=1, text="x")
    orders = (Offer(command_id=command, text="x"), Cancel(command_id=command), EndRecorded(command_id=command), halt)
    for message in (*orders, HaltLifted(number=1), Leave(restart=True), Resize(columns=100, rows=30), keys, Ping()):
        session.receive(encode(message))
    said = [decode_from_agent(frame) for frame in frames(session)]
    answers = [message for message in said if isinstance(message, KeysTaken)]
    assert [answer.refused for answer in answers] == ["no_terminal"]
    assert said[-1] == Pong()


def test_a_message_that_the_server_would_reject_is_not_sent(session):
    """The server would close the connection, and the agent would stay away."""
    connect(session)
    for error in ("x" * 300, "\ud800"):
        session.send(Ended(command_id=uuid4(), outcome="failed", ended_at=NOW, error=error))
    session.send(Pong())
    assert [decode_from_agent(frame) for frame in frames(session)] == [Pong()]


def test_a_welcome_is_the_first_message_and_only_the_first(session):
    """Another first message ends the connection; a second welcome changes nothing."""
    with pytest.raises(ProtocolFault, match="pong"):
        session.receive_welcome(encode(Pong()))
    with pytest.raises(ProtocolFault, match="not understood"):
        session.receive_welcome("<html>")
    server = connect(session)
    session.receive(server.welcome(session.connect()))


def test_impossible_offsets_from_the_server_end_the_connection(session):
    """They are an acknowledgement of unsent bytes, and a resume offset past the end."""
    server = connect(session)
    session._terminal.write(b"abc")
    with pytest.raises(ProtocolFault, match="contradicts"):
        session.receive(encode(Acknowledged(offset=1)))
    server.inbox = Inbox(4)
    with pytest.raises(ProtocolFault, match="does not have"):
        session.receive_welcome(encode(Welcome(**_fields(server, 4))))


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


def test_keys_are_answered_at_the_programs_pace(session, handler):
    """Keys are typed once; when they are sent again, they get the same answer."""
    connect(session)
    page = uuid4()
    first, second = (Keys(client_id=page, seq=seq, text=text) for seq, text in ((1, "ls"), (2, "too much")))
    session.receive(encode(first))
    session.receive(encode(second))
    assert frames(session) == []
    for answer in handler.answers:
        answer()
    answers = [KeysTaken(client_id=page, seq=1), KeysTaken(client_id=page, seq=2, refused="too_much")]
    assert [decode_from_agent(frame) for frame in frames(session)] == answers
    connect(session)
    session.receive(encode(first))
    assert [decode_from_agent(frame) for frame in frames(session)] == answers[:1]
    assert handler.calls == [("type", "ls"), ("type", "too much")]


def test_a_session_is_idle_when_the_server_keeps_everything(session):
    """Bytes that are sent and not acknowledged do not count."""
    server = connect(session)
    assert session.idle
    session._terminal.write(b"abc")
    for frame in frames(session):
        server.take(frame)
    assert not session.idle
    session.receive(encode(Acknowledged(offset=3)))
    assert session.idle
    assert session.acknowledgements == 1


acts = st.lists(
    st.tuples(st.just("write"), st.binary(min_size=1, max_size=20))
    | st.tuples(st.sampled_from(["send", "lose", "acknowledge", "cut", "restart"]), st.none()),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(acts=acts)
def test_every_byte_arrives_once_and_in_order_over_links_that_break(acts, tmp_path):
    """Frames are lost, links are cut at any time, and servers begin a new stream."""
    outbox = Outbox(tmp_path / uuid4().hex, uuid4())
    terminal = AgentTerminal(80, 24, outbox)
    session, server, written = ServerSession(terminal, Handler()), Server(), bytearray()
    connect(session, server)
    lost = False
    arrived = bytearray()
    for act, data in [*acts, ("cut", None), ("send", None), ("send", None)]:
        match act:
            case "write":
                written += data
                terminal.write(data)
            case "send" | "lose":
                # A link that loses a frame loses all later frames too.
                lost = lost or act == "lose"
                for frame in frames(session):
                    if not lost:
                        server.take(frame)
            case "acknowledge":
                session.receive(encode(Acknowledged(offset=server.inbox.end)))
            case "cut" | "restart":
                session.disconnected()
                if act == "restart":
                    # The server loses bytes that it has not acknowledged, and gets them again.
                    arrived += server.data[: len(server.data) - (server.inbox.end - outbox.start)]
                    server.restart()
                    server.data = bytearray()
                connect(session, server)
                lost = False
    assert arrived + server.data == written
    outbox.close()
