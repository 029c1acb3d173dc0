"""The channel as a state machine, without a socket or a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onsembl.protocol.rates import SlidingWindow
from onsembl.realtime.channels.channel import Channel, State
from onsembl.realtime.channels.join import Replay, parse_join
from onsembl.realtime.channels.limits import Limits
from onsembl.realtime.channels.questions import (
    AskPolicies,
    AskReplay,
    AskSubscribed,
    Failed,
    Policies,
    Replayed,
    Subscribed,
)
from onsembl.realtime.channels.serializer import Broadcast, Frame, Message
from onsembl.realtime.channels.shared import Shared
from onsembl.realtime.channels.topics import Topics
from onsembl.realtime.tokens import BadToken

LIMITS = Limits()
BOTH = frozenset({"broadcast", "presence"})


@dataclass
class Port:
    """Remembers what a channel does."""

    pushed: list[Message] = field(default_factory=list)
    refused: list[Frame] = field(default_factory=list)
    following: list[Channel] = field(default_factory=list)
    waiting: list[Channel] = field(default_factory=list)
    gone: list[Channel] = field(default_factory=list)

    def push(self, message: Message | Shared) -> None:
        self.pushed.append(message._message if isinstance(message, Shared) else message)

    def refuse(self, refusal: Frame) -> None:
        self.refused.append(refusal)

    def follow_changes(self, channel: Channel) -> None:
        self.following.append(channel)

    def follow_replication(self, channel: Channel) -> None:
        self.waiting.append(channel)

    def closed(self, channel: Channel) -> None:
        self.gone.append(channel)

    def take(self) -> list[Message]:
        taken, self.pushed = self.pushed, []
        return taken

    def events(self) -> list[str]:
        return [message.event for message in self.take()]


def verify(token: str) -> dict[str, Any]:
    if token.startswith("bad"):
        raise BadToken("MalformedJWT", "The token provided is not a valid JWT")
    return {"role": "authenticated", "sub": token}


Join = Callable[..., tuple[Channel, Port]]


@pytest.fixture
def topics() -> Topics:
    return Topics()


@pytest.fixture
def join(topics: Topics) -> Join:
    """A channel that is about to join, and its port."""

    def make(limits: Limits = LIMITS, **config: Any) -> tuple[Channel, Port]:
        port = Port()
        frame = Frame("realtime:room", "phx_join", {}, "1", "1")
        request = parse_join({"config": config, "access_token": "token"})
        events = SlidingWindow(limits.events_per_second, limits.rate_window)
        channel = Channel(
            frame, request, {"role": "anon"}, port=port, topics=topics, verify=verify, limits=limits, events=events
        )
        return channel, port

    return make


HELLO = Frame("realtime:room", "broadcast", {"event": "hello", "payload": {}}, "2", "1")


def test_a_public_channel_needs_no_question(join):
    """It is joined at once."""
    channel, port = join()
    assert channel.open() is None
    assert channel.state is State.JOINED
    assert port.take() == [
        Frame("realtime:room", "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}, "1", "1")
    ]


def test_a_private_channel_asks_what_it_may_read(join):
    """Presence only when it was asked for."""
    channel, _ = join(private=True)
    assert channel.open() == AskPolicies(read=frozenset({"broadcast"}))
    channel, port = join(private=True, presence={"enabled": True})
    assert channel.open() == AskPolicies(read=BOTH)
    channel.answer(Policies(read=frozenset({"presence"})))
    assert port.events() == ["phx_reply", "presence_state"]


def test_what_comes_while_a_question_is_open_waits_in_order(join):
    """The first broadcast asks; the next ones follow it, and the answer is asked for once."""
    channel, port = join(private=True, broadcast={"self": True, "ack": True})
    channel.open()
    channel.answer(Policies(read=BOTH))
    port.take()
    assert channel.receive(HELLO, 10, 0.0) == AskPolicies(write=frozenset({"broadcast"}))
    second = Frame("realtime:room", "broadcast", {"event": "second"}, "3", "1")
    assert channel.receive(second, 10, 0.0) is None
    assert port.take() == []
    assert channel.answer(Policies(write=frozenset({"broadcast"}))) is None
    assert port.events() == ["broadcast", "phx_reply", "broadcast", "phx_reply"]


def test_too_much_waiting_ends_the_channel(join):
    """What waits for an answer is bounded."""
    channel, port = join(Limits(waiting_messages=2), private=True)
    channel.open()
    for _ in range(3):
        channel.receive(HELLO, 10, 0.0)
    assert port.events() == ["system", "phx_close"]
    assert channel.answer(Policies(read=BOTH)) is None
    assert port.take() == []


def test_an_unreadable_topic_is_refused(join, topics):
    """The client hears it later, and nothing of the topic."""
    channel, port = join(private=True)
    channel.open()
    assert channel.answer(Policies()) is None
    assert port.refused[0].payload["response"]["reason"].startswith("Unauthorized: ")
    assert port.gone == [channel]
    assert topics.broadcast(("room", True), HELLO) == 0


def test_a_failed_answer_refuses_a_join_and_ends_a_channel(join):
    """With its words."""
    failed = Failed("Code", "message")
    channel, port = join(private=True)
    channel.open()
    channel.answer(failed)
    assert port.refused[0].payload["response"] == {"reason": "Code: message"}
    channel, port = join(private=True)
    channel.open()
    channel.answer(Policies(read=BOTH))
    port.take()
    channel.receive(HELLO, 10, 0.0)
    channel.answer(failed)
    assert [message.payload.get("message") for message in port.take()] == ["message", None]


def test_replays_come_before_anything_live_and_not_twice(join, topics):
    """A message that was replayed is not told again when it comes by the log."""
    channel, port = join(private=True, broadcast={"replay": {"since": 1}})
    channel.open()
    assert channel.answer(Policies(read=BOTH)) == AskReplay(Replay(1, 25))
    stored = Broadcast("realtime:room", "e", b"{}", True, {"id": "x", "replayed": True})
    channel.answer(Replayed((stored,)))
    assert port.events() == ["phx_reply", "e"]
    topics.broadcast(("room", True), stored, message_id="x")
    assert port.take() == []
    topics.broadcast(("room", True), stored, message_id="y")
    assert port.events() == ["e"]


def test_a_join_that_waits_is_answered_when_changes_flow(join):
    """Its reply and the word that they flow come together."""
    changes = {"postgres_changes": [{"schema": "public"}], "postgres_changes_options": {"wait": True, "timeout": 500}}
    channel, port = join(**changes)
    assert channel.open() == AskSubscribed(0.5)
    assert port.take() == []
    channel.answer(Subscribed())
    assert port.events() == ["phx_reply", "system"]
    assert port.following == []


def test_a_new_token_follows_changes_under_its_claims(join):
    """The subscriptions are checked again; the same token again is nothing new."""
    channel, port = join(postgres_changes=[{"schema": "public"}])
    channel.open()
    assert port.following == [channel]
    renew = Frame("realtime:room", "access_token", {"access_token": "other"})
    channel.receive(renew, 10, 0.0)
    assert (channel.role, port.following) == ("authenticated", [channel, channel])
    channel.receive(renew, 10, 0.0)
    assert len(port.following) == 2


def test_lost_permissions_end_the_channel(join):
    """Broadcast could be read, and can no more; that presence still can does not matter."""
    channel, port = join(private=True, presence={"enabled": True})
    channel.open()
    channel.answer(Policies(read=BOTH))
    port.take()
    renew = Frame("realtime:room", "access_token", {"access_token": "other"})
    assert channel.receive(renew, 10, 0.0) == AskPolicies(read=BOTH)
    channel.answer(Policies(read=frozenset({"presence"})))
    assert port.pushed[0].payload["message"] == ("You no longer have permission to read from this Channel topic: room")
    assert port.events() == ["system", "phx_close"]


def test_a_crash_lets_the_client_join_again(join, topics):
    """It is told phx_error, which its client answers by joining."""
    channel, port = join()
    channel.open()
    port.take()
    channel.crash()
    assert port.events() == ["phx_error"]
    assert topics.broadcast(("room", False), HELLO) == 0


def test_tokens_expire(join):
    """From that second on."""
    channel, port = join()
    channel.open()
    port.take()
    channel.expires_at = 100.0
    channel.check(99.9)
    assert port.take() == []
    channel.check(103.2)
    assert port.pushed[0].payload["message"] == "Token has expired 3 seconds ago"


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order: one question at a time, nothing said after the close, nobody left behind."""

    def __init__(self) -> None:
        super().__init__()
        self.topics = Topics()
        self.port = Port()
        self.question: Any = None
        frame = Frame("realtime:room", "phx_join", {}, "1", "1")
        config = {"private": True, "broadcast": {"ack": True, "self": True}, "presence": {"enabled": True}}
        self.channel = Channel(
            frame,
            parse_join({"config": {**config, "postgres_changes": [{"schema": "public"}]}}),
            {"role": "anon"},
            port=self.port,
            topics=self.topics,
            verify=verify,
            limits=Limits(waiting_messages=5),
            events=SlidingWindow(1000, 10),
        )
        self.question = self.channel.open()

    def heard(self, question: Any) -> None:
        assert question is None or self.question is None
        self.question = question or self.question

    @rule(
        event=st.sampled_from(["broadcast", "presence", "access_token", "nonsense"]),
        inner=st.sampled_from(["track", "untrack", "TRACK", "x", None]),
        payload=st.sampled_from([{}, {"a": 1}, [], None]),
        token=st.sampled_from(["a", "b", "bad", "sb_x", None, 5]),
    )
    def receive(self, event: str, inner: Any, payload: Any, token: Any) -> None:
        content = {"event": inner, "payload": payload, "access_token": token}
        self.heard(self.channel.receive(Frame("realtime:room", event, content, "2", "1"), 10, 0.0))

    @rule(is_json=st.booleans())
    def receive_bytes(self, is_json: bool) -> None:
        self.heard(self.channel.receive(Broadcast("realtime:room", "e", b"{}", is_json), 10, 0.0))

    @rule(
        read=st.sets(st.sampled_from(sorted(BOTH))), write=st.sets(st.sampled_from(sorted(BOTH))), fails=st.booleans()
    )
    def answer(self, read: Any, write: Any, fails: bool) -> None:
        if self.question is None:
            return
        asked, self.question = self.question, None
        answer = Policies(frozenset(read) & asked.read, frozenset(write) & asked.write)
        self.heard(self.channel.answer(Failed("C", "m") if fails and len(read) == 2 else answer))

    @rule()
    def leave(self) -> None:
        self.heard(self.channel.receive(Frame("realtime:room", "phx_leave", {}, "9", "1"), 10, 0.0))

    @rule(ready=st.booleans())
    def be_told(self, ready: bool) -> None:
        self.channel.subscribed(None if ready else "no")
        self.channel.replication_ready(ready=True)
        self.channel.take_change(Shared(Frame("realtime:room", "postgres_changes", {})))

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if self.channel.state is State.CLOSED:
            assert self.port.gone == [self.channel]
            assert self.topics.broadcast(("room", True), HELLO) == 0
            if not self.port.refused:
                events = [message.event for message in self.port.pushed]
                assert events[-1] == "phx_close"
                assert events.count("phx_close") == 1


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
