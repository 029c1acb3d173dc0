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
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.queries import (
    Policies,
    PolicyQuery,
    QueryFailed,
    Replayed,
    ReplayQuery,
    Subscribed,
    SubscriptionQuery,
)
from onsembl.realtime.channels.serializer import Broadcast, Frame, Message, SharedMessage
from onsembl.realtime.channels.topics import Topics
from onsembl.realtime.tokens import BadToken

LIMITS = RealtimeLimits()
BOTH = frozenset({"broadcast", "presence"})


@dataclass
class FakeTransport:
    """Remembers what a channel does."""

    pushed: list[Message] = field(default_factory=list)
    rejected: list[Frame] = field(default_factory=list)
    subscribing: list[Channel] = field(default_factory=list)
    awaiting_replication: list[Channel] = field(default_factory=list)
    removed: list[Channel] = field(default_factory=list)

    def push(self, message: Message | SharedMessage) -> None:
        self.pushed.append(message._message if isinstance(message, SharedMessage) else message)

    def reject_join(self, reply: Frame) -> None:
        self.rejected.append(reply)

    def subscribe_changes(self, channel: Channel) -> None:
        self.subscribing.append(channel)

    def await_replication(self, channel: Channel) -> None:
        self.awaiting_replication.append(channel)

    def remove(self, channel: Channel) -> None:
        self.removed.append(channel)

    def take(self) -> list[Message]:
        taken, self.pushed = self.pushed, []
        return taken

    def events(self) -> list[str]:
        return [message.event for message in self.take()]


def verify(token: str) -> dict[str, Any]:
    if token.startswith("bad"):
        raise BadToken("MalformedJWT", "The token provided is not a valid JWT")
    return {"role": "authenticated", "sub": token}


Join = Callable[..., tuple[Channel, FakeTransport]]


@pytest.fixture
def topics() -> Topics:
    return Topics()


@pytest.fixture
def join(topics: Topics) -> Join:
    """A channel that is about to join, and its transport."""

    def make(limits: RealtimeLimits = LIMITS, **config: Any) -> tuple[Channel, FakeTransport]:
        transport = FakeTransport()
        frame = Frame("realtime:room", "phx_join", {}, "1", "1")
        request = parse_join({"config": config, "access_token": "token"})
        events = SlidingWindow(limits.events_per_second, limits.rate_window)
        channel = Channel(
            frame,
            request,
            {"role": "anon"},
            transport=transport,
            topics=topics,
            verify=verify,
            limits=limits,
            events=events,
        )
        return channel, transport

    return make


HELLO = Frame("realtime:room", "broadcast", {"event": "hello", "payload": {}}, "2", "1")


def test_a_public_channel_needs_no_question(join):
    """It is joined at once."""
    channel, transport = join()
    assert channel.join() is None
    assert channel.state is State.JOINED
    assert transport.take() == [
        Frame("realtime:room", "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}, "1", "1")
    ]


def test_a_private_channel_asks_what_it_may_read(join):
    """Presence only when it was asked for."""
    channel, _ = join(private=True)
    assert channel.join() == PolicyQuery(read=frozenset({"broadcast"}))
    channel, transport = join(private=True, presence={"enabled": True})
    assert channel.join() == PolicyQuery(read=BOTH)
    channel.resume(Policies(read=frozenset({"presence"})))
    assert transport.events() == ["phx_reply", "presence_state"]


def test_what_comes_while_a_question_is_open_waits_in_order(join):
    """The first broadcast asks; the next ones follow it, and the answer is asked for once."""
    channel, transport = join(private=True, broadcast={"self": True, "ack": True})
    channel.join()
    channel.resume(Policies(read=BOTH))
    transport.take()
    assert channel.receive(HELLO, 10, 0.0) == PolicyQuery(write=frozenset({"broadcast"}))
    second = Frame("realtime:room", "broadcast", {"event": "second"}, "3", "1")
    assert channel.receive(second, 10, 0.0) is None
    assert transport.take() == []
    assert channel.resume(Policies(write=frozenset({"broadcast"}))) is None
    assert transport.events() == ["broadcast", "phx_reply", "broadcast", "phx_reply"]


def test_too_much_waiting_ends_the_channel(join):
    """What waits for an answer is bounded."""
    channel, transport = join(RealtimeLimits(pending_messages=2), private=True)
    channel.join()
    for _ in range(3):
        channel.receive(HELLO, 10, 0.0)
    assert transport.events() == ["system", "phx_close"]
    assert channel.resume(Policies(read=BOTH)) is None
    assert transport.take() == []


def test_an_unreadable_topic_is_refused(join, topics):
    """The client hears it later, and nothing of the topic."""
    channel, transport = join(private=True)
    channel.join()
    assert channel.resume(Policies()) is None
    assert transport.rejected[0].payload["response"]["reason"].startswith("Unauthorized: ")
    assert transport.removed == [channel]
    assert topics.broadcast(("room", True), HELLO) == 0


def test_a_failed_answer_refuses_a_join_and_ends_a_channel(join):
    """With its words."""
    failed = QueryFailed("Code", "message")
    channel, transport = join(private=True)
    channel.join()
    channel.resume(failed)
    assert transport.rejected[0].payload["response"] == {"reason": "Code: message"}
    channel, transport = join(private=True)
    channel.join()
    channel.resume(Policies(read=BOTH))
    transport.take()
    channel.receive(HELLO, 10, 0.0)
    channel.resume(failed)
    assert [message.payload.get("message") for message in transport.take()] == ["message", None]


def test_replays_come_before_anything_live_and_not_twice(join, topics):
    """A message that was replayed is not told again when it comes by the log."""
    channel, transport = join(private=True, broadcast={"replay": {"since": 1}})
    channel.join()
    assert channel.resume(Policies(read=BOTH)) == ReplayQuery(Replay(1, 25))
    stored = Broadcast("realtime:room", "e", b"{}", True, {"id": "x", "replayed": True})
    channel.resume(Replayed((stored,)))
    assert transport.events() == ["phx_reply", "e"]
    topics.broadcast(("room", True), stored, message_id="x")
    assert transport.take() == []
    topics.broadcast(("room", True), stored, message_id="y")
    assert transport.events() == ["e"]


def test_a_join_that_waits_is_answered_when_changes_flow(join):
    """Its reply and the word that they flow come together."""
    changes = {"postgres_changes": [{"schema": "public"}], "postgres_changes_options": {"wait": True, "timeout": 500}}
    channel, transport = join(**changes)
    assert channel.join() == SubscriptionQuery(0.5)
    assert transport.take() == []
    channel.resume(Subscribed())
    assert transport.events() == ["phx_reply", "system"]
    assert transport.subscribing == []


def test_a_new_token_follows_changes_under_its_claims(join):
    """The subscriptions are checked again; the same token again is nothing new."""
    channel, transport = join(postgres_changes=[{"schema": "public"}])
    channel.join()
    assert transport.subscribing == [channel]
    renew = Frame("realtime:room", "access_token", {"access_token": "other"})
    channel.receive(renew, 10, 0.0)
    assert (channel.role, transport.subscribing) == ("authenticated", [channel, channel])
    channel.receive(renew, 10, 0.0)
    assert len(transport.subscribing) == 2


def test_lost_permissions_end_the_channel(join):
    """Broadcast could be read, and can no more; that presence still can does not matter."""
    channel, transport = join(private=True, presence={"enabled": True})
    channel.join()
    channel.resume(Policies(read=BOTH))
    transport.take()
    renew = Frame("realtime:room", "access_token", {"access_token": "other"})
    assert channel.receive(renew, 10, 0.0) == PolicyQuery(read=BOTH)
    channel.resume(Policies(read=frozenset({"presence"})))
    assert transport.pushed[0].payload["message"] == (
        "You no longer have permission to read from this Channel topic: room"
    )
    assert transport.events() == ["system", "phx_close"]


def test_a_crash_lets_the_client_join_again(join, topics):
    """It is told phx_error, which its client answers by joining."""
    channel, transport = join()
    channel.join()
    transport.take()
    channel.crash()
    assert transport.events() == ["phx_error"]
    assert topics.broadcast(("room", False), HELLO) == 0


def test_tokens_expire(join):
    """From that second on."""
    channel, transport = join()
    channel.join()
    transport.take()
    channel.expires_at = 100.0
    channel.check(99.9)
    assert transport.take() == []
    channel.check(103.2)
    assert transport.pushed[0].payload["message"] == "Token has expired 3 seconds ago"


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order: one question at a time, nothing said after the close, nobody left behind."""

    def __init__(self) -> None:
        super().__init__()
        self.topics = Topics()
        self.transport = FakeTransport()
        self.query: Any = None
        frame = Frame("realtime:room", "phx_join", {}, "1", "1")
        config = {"private": True, "broadcast": {"ack": True, "self": True}, "presence": {"enabled": True}}
        self.channel = Channel(
            frame,
            parse_join({"config": {**config, "postgres_changes": [{"schema": "public"}]}}),
            {"role": "anon"},
            transport=self.transport,
            topics=self.topics,
            verify=verify,
            limits=RealtimeLimits(pending_messages=5),
            events=SlidingWindow(1000, 10),
        )
        self.query = self.channel.join()

    def heard(self, question: Any) -> None:
        assert question is None or self.query is None
        self.query = question or self.query

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
    def resume(self, read: Any, write: Any, fails: bool) -> None:
        if self.query is None:
            return
        asked, self.query = self.query, None
        answer = Policies(frozenset(read) & asked.read, frozenset(write) & asked.write)
        self.heard(self.channel.resume(QueryFailed("C", "m") if fails and len(read) == 2 else answer))

    @rule()
    def leave(self) -> None:
        self.heard(self.channel.receive(Frame("realtime:room", "phx_leave", {}, "9", "1"), 10, 0.0))

    @rule(ready=st.booleans())
    def be_told(self, ready: bool) -> None:
        self.channel.subscribed(None if ready else "no")
        self.channel.replication_ready(ready=True)
        self.channel.push_change(SharedMessage(Frame("realtime:room", "postgres_changes", {})))

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if self.channel.state is State.CLOSED:
            assert self.transport.removed == [self.channel]
            assert self.topics.broadcast(("room", True), HELLO) == 0
            if not self.transport.rejected:
                events = [message.event for message in self.transport.pushed]
                assert events[-1] == "phx_close"
                assert events.count("phx_close") == 1


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
