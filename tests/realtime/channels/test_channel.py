"""The channel as a state machine, without a socket and a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.missing_guards import assert_fails

from onsembl.protocol.rates import SlidingWindow
from onsembl.realtime.channels.channel import Channel, ChannelState
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
from onsembl.realtime.channels.serializer import BroadcastMessage, Frame, Message, SharedMessage
from onsembl.realtime.channels.topics import Topics
from onsembl.realtime.tokens import BadToken

LIMITS = RealtimeLimits()
BOTH = frozenset({"broadcast", "presence"})


@dataclass
class FakeTransport:
    """Records the calls of a channel."""

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
    """Makes a channel that has not joined yet, and its transport."""

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


def test_a_public_channel_joins_at_once(join):
    """A public channel joins without a query."""
    channel, transport = join()
    assert channel.join() is None
    assert channel.state is ChannelState.JOINED
    assert transport.take() == [
        Frame("realtime:room", "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}, "1", "1")
    ]


def test_a_private_channel_queries_its_policies(join):
    """A private channel queries whether it may read broadcasts, and presence only where it is enabled."""
    channel, _ = join(private=True)
    assert channel.join() == PolicyQuery(read=frozenset({"broadcast"}))
    channel, transport = join(private=True, presence={"enabled": True})
    assert channel.join() == PolicyQuery(read=BOTH)
    channel.resume(Policies(read=frozenset({"presence"})))
    assert transport.events() == ["phx_reply", "presence_state"]


def test_messages_wait_for_an_open_query_in_order(join):
    """Broadcasts wait for the open query and are then sent in order, without a second query."""
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


def test_too_many_pending_messages_close_the_channel(join):
    """A channel with too many messages that wait for a query is closed."""
    channel, transport = join(RealtimeLimits(pending_messages=2), private=True)
    channel.join()
    for _ in range(3):
        channel.receive(HELLO, 10, 0.0)
    assert transport.events() == ["system", "phx_close"]
    assert channel.resume(Policies(read=BOTH)) is None
    assert transport.take() == []


def test_a_join_of_an_unreadable_topic_is_rejected(join, topics):
    """A channel that may not read its topic is rejected and gets no broadcast."""
    channel, transport = join(private=True)
    channel.join()
    assert channel.resume(Policies()) is None
    assert transport.rejected[0].payload["response"]["reason"].startswith("Unauthorized: ")
    assert transport.removed == [channel]
    assert topics.broadcast(("room", True), HELLO) == 0


def test_a_failed_query_rejects_a_join_and_closes_a_channel(join):
    """A failed query rejects a join with its code and message, and closes a joined channel with its message."""
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


def test_replayed_messages_come_first_and_once(join, topics):
    """Replayed messages come before live ones, and a live message that was replayed is not pushed again."""
    channel, transport = join(private=True, broadcast={"replay": {"since": 1}})
    channel.join()
    assert channel.resume(Policies(read=BOTH)) == ReplayQuery(Replay(1, 25))
    stored = BroadcastMessage("realtime:room", "e", b"{}", True, {"id": "x", "replayed": True})
    channel.resume(Replayed((stored,)))
    assert transport.events() == ["phx_reply", "e"]
    topics.broadcast(("room", True), stored, message_id="x")
    assert transport.take() == []
    topics.broadcast(("room", True), stored, message_id="y")
    assert transport.events() == ["e"]


def test_a_join_with_wait_is_answered_after_its_subscription(join):
    """A join with `wait` is answered once the subscription delivers changes, with the `system` message."""
    changes = {"postgres_changes": [{"schema": "public"}], "postgres_changes_options": {"wait": True, "timeout": 500}}
    channel, transport = join(**changes)
    assert channel.join() == SubscriptionQuery(0.5)
    assert transport.take() == []
    channel.resume(Subscribed())
    assert transport.events() == ["phx_reply", "system"]
    assert transport.subscribing == []


def test_a_new_token_renews_the_subscription(join):
    """A new token subscribes again under its claims; the same token once more does nothing."""
    channel, transport = join(postgres_changes=[{"schema": "public"}])
    channel.join()
    assert transport.subscribing == [channel]
    renew = Frame("realtime:room", "access_token", {"access_token": "other"})
    channel.receive(renew, 10, 0.0)
    assert (channel.role, transport.subscribing) == ("authenticated", [channel, channel])
    channel.receive(renew, 10, 0.0)
    assert len(transport.subscribing) == 2


def test_lost_permissions_close_the_channel(join):
    """A channel whose new token may not read broadcasts any more is closed, although it may read presence."""
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
    """A crash pushes phx_error, upon which clients join again, and removes the channel from its topic."""
    channel, transport = join()
    channel.join()
    transport.take()
    channel.crash()
    assert transport.events() == ["phx_error"]
    assert topics.broadcast(("room", False), HELLO) == 0


def test_an_expired_token_closes_the_channel(join):
    """The channel is closed from the second on at which its token expires."""
    channel, transport = join()
    channel.join()
    transport.take()
    channel.expires_at = 100.0
    channel.check(99.9)
    assert transport.take() == []
    channel.check(103.2)
    assert transport.pushed[0].payload["message"] == "Token has expired 3 seconds ago"


class AnyOrder(RuleBasedStateMachine):
    """Any messages in any order: one open query at a time, nothing pushed after the close, no topic with a closed
    channel."""

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

    def note_query(self, question: Any) -> None:
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
        self.note_query(self.channel.receive(Frame("realtime:room", event, content, "2", "1"), 10, 0.0))

    @rule(is_json=st.booleans())
    def receive_bytes(self, is_json: bool) -> None:
        self.note_query(self.channel.receive(BroadcastMessage("realtime:room", "e", b"{}", is_json), 10, 0.0))

    @rule(
        read=st.sets(st.sampled_from(sorted(BOTH))), write=st.sets(st.sampled_from(sorted(BOTH))), fails=st.booleans()
    )
    def resume(self, read: Any, write: Any, fails: bool) -> None:
        if self.query is None:
            return
        asked, self.query = self.query, None
        answer = Policies(frozenset(read) & asked.read, frozenset(write) & asked.write)
        self.note_query(self.channel.resume(QueryFailed("C", "m") if fails and len(read) == 2 else answer))

    @rule()
    def leave(self) -> None:
        self.note_query(self.channel.receive(Frame("realtime:room", "phx_leave", {}, "9", "1"), 10, 0.0))

    @rule(ready=st.booleans())
    def notify(self, ready: bool) -> None:
        self.channel.subscribed(None if ready else "no")
        self.channel.replication_ready(ready=True)
        self.channel.push_change(SharedMessage(Frame("realtime:room", "postgres_changes", {})))

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if self.channel.state is ChannelState.CLOSED:
            assert self.transport.removed == [self.channel]
            assert self.topics.broadcast(("room", True), HELLO) == 0
            if not self.transport.rejected:
                events = [message.event for message in self.transport.pushed]
                assert events[-1] == "phx_close"
                assert events.count("phx_close") == 1


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize(
    ("part", "name", "broken"),
    [
        (Topics, "leave", lambda *_: None),  # a closed channel stays in its topic
        (Channel, "push_change", lambda channel, change: channel._transport.push(change)),  # also after the close
    ],
)
def test_a_missing_guard_is_seen(
    monkeypatch: pytest.MonkeyPatch, part: type, name: str, broken: Callable[..., object]
) -> None:
    """The machine fails without any of these guards."""
    monkeypatch.setattr(part, name, broken)
    assert_fails(AnyOrder)
