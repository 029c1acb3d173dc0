"""One topic that one socket has joined, as a state machine. No I/O.

    JOINING ── join accepted ──> JOINED ── leave, error, close ──> CLOSED
       └────── join rejected ─────────────────────────────────────^

Replies and pushes go out through the transport at once. Where the database has to be queried first, `join`, `receive`
and `resume` return a query; the client's messages wait, in order, until its result comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol, cast

import orjson

from onsembl.protocol.rates import SlidingWindow
from onsembl.realtime.channels.join import JoinRequest
from onsembl.realtime.channels.limits import ChannelRates, RealtimeLimits
from onsembl.realtime.channels.queries import (
    Extension,
    Permissions,
    Policies,
    PolicyQuery,
    Query,
    QueryFailed,
    QueryResult,
    Replayed,
    ReplayQuery,
    Subscribed,
    SubscriptionQuery,
)
from onsembl.realtime.channels.serializer import (
    BroadcastMessage,
    Frame,
    Message,
    Ref,
    SharedMessage,
    is_encodable,
    reply,
)
from onsembl.realtime.channels.subscription import Subscription, parse_all
from onsembl.realtime.channels.topics import PREFIX, TopicKey, Topics
from onsembl.realtime.tokens import BadToken, is_anonymous

SUBSCRIBED = "Subscribed to PostgreSQL"
REPLICATION_READY = "Replication connection established"
TOO_MANY_MESSAGES = "Too many messages per second"

Verify = Callable[[str], dict[str, Any]]
"""Returns the claims of a token, or raises BadToken."""


class ChannelState(Enum):
    JOINING = "joining"
    JOINED = "joined"
    CLOSED = "closed"


class Transport(Protocol):
    """A channel's socket. No method waits."""

    def push(self, message: Message | SharedMessage) -> None:
        """Send a message to the client."""
        ...

    def reject_join(self, reply: Frame) -> None:
        """Send the reply after the pause for rejected joins."""
        ...

    def subscribe_changes(self, channel: Channel) -> None:
        """Subscribe the channel to changes, and then call its `subscribed`."""
        ...

    def await_replication(self, channel: Channel) -> None:
        """Call the channel's `replication_ready` once broadcasts from the database arrive."""
        ...

    def remove(self, channel: Channel) -> None:
        """Remove the closed channel."""
        ...


class Channel:
    """A topic that a client has joined or is joining."""

    def __init__(
        self,
        frame: Frame,
        request: JoinRequest,
        claims: Mapping[str, Any],
        *,
        transport: Transport,
        topics: Topics,
        verify: Verify,
        limits: RealtimeLimits,
        events: SlidingWindow,
        network: str = "",
    ) -> None:
        """`network` is that of the client's address."""
        self.topic = frame.topic
        self.join_ref: Ref = frame.join_ref
        self.request = request
        self.state = ChannelState.JOINING
        self.subscriptions: tuple[Subscription, ...] = ()
        self._join_frame = frame
        self._transport, self._topics, self._verify, self._limits = transport, topics, verify, limits
        self._token = request.token
        self._rates = ChannelRates(limits, events)
        self._presence = request.presence
        self._permissions = Permissions(request.private)
        self._replayed: frozenset[str] = frozenset()
        self._query: Query | None = None
        self._continue: Callable[[QueryResult], Query | None] | None = None
        self._pending: deque[tuple[Message, int]] = deque()
        self._now = 0.0
        self._network = network
        self._set_claims(claims)

    def _set_claims(self, claims: Mapping[str, Any]) -> None:
        self.role: str = str(claims.get("role", "anon"))
        self.subject = str(claims.get("sub", ""))
        self._is_anonymous = is_anonymous(claims)
        self.claims: str = orjson.dumps(claims).decode()
        self.expires_at = float(claims.get("exp", "inf"))

    @property
    def name(self) -> str:
        """The topic without its prefix."""
        return self.topic.removeprefix(PREFIX)

    @property
    def key(self) -> TopicKey:
        return self.name, self.request.private

    @property
    def payer(self) -> str:
        """The user or the network that answers for the cost of the filters."""
        return f"user {self.subject}" if self.subject else f"network {self._network}"

    # Joining

    def join(self) -> Query | None:
        """Start to join."""
        if self.request.replay_error is not None:
            return self._reject("UnableToReplayMessages", self.request.replay_error)
        if not self.request.private:
            if self._is_anonymous and not self._limits.anonymous_broadcast:
                return self._reject("Unauthorized", "Public channels require a user's access token")
            return self._accept(())
        return self._start_query(PolicyQuery(read=self._extensions()), self._authorize)

    def _extensions(self) -> frozenset[Extension]:
        return frozenset({"broadcast", "presence"}) if self._presence else frozenset({"broadcast"})

    def _authorize(self, _result: QueryResult) -> Query | None:
        replay = self.request.replay
        if not (self._may_read() if replay is None else self._permissions.may_read("broadcast")):
            return self._reject("Unauthorized", self._read_denied())
        if replay is None:
            return self._accept(())
        return self._start_query(
            ReplayQuery(replay),
            lambda result: self._accept(result.messages if isinstance(result, Replayed) else ()),
        )

    def _may_read(self) -> bool:
        return self._permissions.may_read("broadcast") or self._permissions.may_read("presence")

    def _read_denied(self) -> str:
        return f"You do not have permissions to read from this Channel topic: {self.name}"

    def _accept(self, replayed: tuple[BroadcastMessage, ...]) -> Query | None:
        self._replayed = frozenset(str(message.meta.get("id")) for message in replayed)
        entries, self.subscriptions, error = parse_all(self.request.postgres_changes)
        if self.subscriptions and self.request.wait:
            timeout = min(self.request.wait_timeout or self._limits.subscribe_wait, self._limits.subscribe_wait_max)
            return self._start_query(SubscriptionQuery(timeout), lambda result: self._joined(entries, replayed, result))
        return self._joined(entries, replayed, Subscribed(error) if error is not None else None)

    def _joined(
        self, entries: list[dict[str, Any]], replayed: tuple[BroadcastMessage, ...], subscribed: QueryResult | None
    ) -> Query | None:
        """Complete the join. `subscribed` is the result of the subscriptions, where it is known already."""
        self.state = ChannelState.JOINED
        self._topics.join(self)
        self._reply(self._join_frame, "ok", {"postgres_changes": entries})
        for message in replayed:
            self._transport.push(message)
        if self._presence:
            self._push_presence_state()
        if isinstance(subscribed, Subscribed):
            self.subscribed(subscribed.error)
        elif self.subscriptions:
            self._transport.subscribe_changes(self)
        if self.request.replication_ready:
            self._transport.await_replication(self)
        return self._handle_pending()

    def _reject(self, code: str, message: str) -> None:
        """Reject the join."""
        self.state = ChannelState.CLOSED
        self._transport.reject_join(reply(self._join_frame, "error", {"reason": f"{code}: {message}"}))
        self._transport.remove(self)

    # Queries to the database

    def _start_query(self, query: Query, then: Callable[[QueryResult], Query | None]) -> Query:
        self._query, self._continue = query, then
        return query

    def resume(self, result: QueryResult) -> Query | None:
        """Continue with the result of the open query. Returns the next query, if there is one."""
        query, then = self._query, self._continue
        self._query = self._continue = None
        if then is None or self.state is ChannelState.CLOSED:
            return None
        if isinstance(result, QueryFailed):
            if self.state is ChannelState.JOINING:
                return self._reject(result.code, result.message)
            return self.close_with_error(result.message)
        if isinstance(query, PolicyQuery) and isinstance(result, Policies):
            self._permissions.learn(query, result)
        return then(result) or self._handle_pending()

    def _handle_pending(self) -> Query | None:
        """Handle the messages that have waited, until one of them needs a query."""
        while self._pending and self._query is None and self.state is ChannelState.JOINED:
            message, size = self._pending.popleft()
            if (query := self._handle(message, size, self._now)) is not None:
                return query
        return None

    # Messages of the client

    def receive(self, message: Message, size: int, now: float) -> Query | None:
        """Receive a message of `size` bytes from the client. `now` is in seconds, of a clock that never goes back."""
        self._now = now
        if self.state is ChannelState.CLOSED:
            return None
        if self._query is None and self.state is ChannelState.JOINED:
            return self._handle(message, size, now)
        if isinstance(message, Frame) and message.event == "phx_leave":
            return self._leave(message)
        self._pending.append((message, size))
        if len(self._pending) > self._limits.pending_messages:
            self.close_with_error(TOO_MANY_MESSAGES)
        return None

    def _handle(self, message: Message, size: int, now: float) -> Query | None:
        if isinstance(message, BroadcastMessage) or message.event == "broadcast":
            return self._broadcast(message, size, now)
        match message.event:
            case "presence":
                return self._handle_presence(message, size, now)
            case "access_token":
                return self._update_token(message.payload.get("access_token"))
            case "phx_leave":
                return self._leave(message)
            case _:  # Unknown events are ignored, but counted.
                return None if self._rates.events.add(now) else self.close_with_error(TOO_MANY_MESSAGES)

    def _leave(self, frame: Frame) -> None:
        self._reply(frame, "ok", {})
        self.close()

    def _broadcast(self, message: Message, size: int, now: float) -> Query | None:
        if not self._permissions.knows_write("broadcast"):
            return self._start_query(
                PolicyQuery(write=frozenset({"broadcast"})), lambda _: self._broadcast(message, size, now)
            )
        if not self._permissions.may_write("broadcast"):
            return None  # Without a reply, as in Supabase Realtime.
        if not self._rates.events.add(now):
            return self.close_with_error(TOO_MANY_MESSAGES)
        fits = size <= self._limits.payload_bytes
        if fits:
            if isinstance(message, BroadcastMessage):
                relayed: Message = BroadcastMessage(self.topic, message.event, message.body, message.is_json)
            else:
                relayed = Frame(self.topic, "broadcast", message.payload)
            self._topics.broadcast(self.key, relayed, exclude=None if self.request.to_self else self)
        if self.request.ack:
            self._reply(message, *(("ok", {}) if fits else ("error", {"error": "payload_size_exceeded"})))
        return None

    def _handle_presence(self, frame: Frame, size: int, now: float) -> Query | None:
        event: object = frame.payload.get("event")
        if not isinstance(event, str):
            return self._reply(frame, "ok", {})
        if not self._rates.presence_calls.add(now):
            return self.close_with_error("Client presence rate limit exceeded")
        match event.lower():
            case "track" if not self._permissions.knows_write("presence"):
                extensions: frozenset[Extension] = frozenset({"presence"})
                return self._start_query(PolicyQuery(extensions, extensions), lambda _: self._track(frame, size, now))
            case "track":
                return self._track(frame, size, now)
            case "untrack":
                self._topics.untrack(self)
                return self._reply(frame, "ok", {})
            case _:
                return self._reply(frame, "error", {})

    def _track(self, frame: Frame, size: int, now: float) -> None:
        if not self._permissions.may_write("presence"):
            return self._reply(frame, "error", {})
        payload: object = frame.payload.get("payload", {})
        if not isinstance(payload, dict) or not is_encodable(payload):  # pyright: ignore[reportUnknownArgumentType]
            return self._reply(frame, "error", {"reason": "Presence track payload must be a map"})
        if size > self._limits.payload_bytes:
            return self.close_with_error("Track message size exceeded")
        if not self._rates.presence_events.add(now):
            return self.close_with_error("Too many presence messages per second")
        if not self._presence:  # A client that tracks gets the presence of the others, too.
            self._presence = True
            self._push_presence_state()
        self._topics.track(self, self.request.presence_key, cast(dict[str, Any], payload))
        return self._reply(frame, "ok", {})

    def _update_token(self, token: object) -> Query | None:
        """Continue with the claims of another token."""
        if not isinstance(token, str) or token.startswith("sb_") or token == self._token:
            return None
        try:
            claims = self._verify(token)
        except BadToken as error:
            return self.close_with_error(error.message)
        self._token = token
        self._set_claims(claims)
        if not self.request.private:
            return self._token_updated(frozenset())
        readable = self._permissions.forget()
        return self._start_query(
            PolicyQuery(read=self._extensions() | readable), lambda _: self._token_updated(readable)
        )

    def _token_updated(self, readable: frozenset[Extension]) -> None:
        """`readable` are the extensions that the last token let the channel read."""
        if not self._may_read():
            return self.close_with_error(self._read_denied())
        if any(not self._permissions.may_read(extension) for extension in readable):
            return self.close_with_error(f"You no longer have permission to read from this Channel topic: {self.name}")
        if self.subscriptions:
            self._transport.subscribe_changes(self)
        return None

    # Pushes to the client

    def push_broadcast(self, message: SharedMessage, message_id: str | None) -> None:
        """Push a broadcast of the topic, if the channel may read broadcasts and did not get this one by replay."""
        if self._permissions.may_read("broadcast") and message_id not in self._replayed:
            self._transport.push(message)

    def push_presence(self, message: SharedMessage) -> None:
        """Push a `presence_diff`, if the channel may read presence."""
        if self._permissions.may_read("presence"):
            self._transport.push(message)

    def push_change(self, message: SharedMessage) -> None:
        """Push a change that the channel may see."""
        if self.state is ChannelState.JOINED:
            self._transport.push(message)

    def end_changes(self, reason: str) -> None:
        """Tell the client that it gets no more changes. The channel stays open for broadcasts."""
        self.subscriptions = ()
        self.subscribed(reason)

    def miss_changes(self) -> None:
        """Have the client join again and read its rows anew, because changes for it were dropped."""
        self.crash()

    def subscribed(self, error: str | None) -> None:
        """Tell the client that it gets changes from now on, or why it never will."""
        if self.state is ChannelState.JOINED:
            self._push_system("postgres_changes", "ok" if error is None else "error", error or SUBSCRIBED)

    def replication_ready(self, *, ready: bool) -> None:
        """Tell the client that broadcasts from the database arrive; close the channel if they did not in time."""
        if self.state is not ChannelState.JOINED:
            return
        if ready:
            self._push_system("system", "ok", REPLICATION_READY)
        else:
            self.close_with_error("Replication connection was not established in time")

    def check(self, unix_time: float) -> None:
        """Close the channel if its token has expired."""
        if self.state is ChannelState.JOINED and unix_time >= self.expires_at:
            self.close_with_error(f"Token has expired {int(unix_time - self.expires_at)} seconds ago")

    # Closing

    def close_with_error(self, message: str) -> None:
        """Close the channel after a `system` message with the error."""
        self._push_system("system", "error", message)
        self.close()

    def close(self) -> None:
        """Close the channel with `phx_close`."""
        if self.state is not ChannelState.CLOSED:
            self._transport.push(Frame(self.topic, "phx_close", {}, self.join_ref, self.join_ref))
            self.drop()

    def crash(self) -> None:
        """Close the channel with `phx_error`: the client joins again, as after an error of the server."""
        if self.state is not ChannelState.CLOSED:
            self._transport.push(Frame(self.topic, "phx_error", {}, self.join_ref, self.join_ref))
            self.drop()

    def drop(self) -> None:
        """Close the channel without a message: the client is gone."""
        self.state = ChannelState.CLOSED
        self._pending.clear()
        self._topics.leave(self)
        self._transport.remove(self)

    def _push_system(self, extension: str, status: str, message: str) -> None:
        payload = {"extension": extension, "status": status, "message": message, "channel": self.name}
        self._transport.push(Frame(self.topic, "system", payload, join_ref=self.join_ref))

    def _push_presence_state(self) -> None:
        if self._permissions.may_read("presence"):
            self._transport.push(Frame(self.topic, "presence_state", self._topics.presence_state(self.key)))

    def _reply(self, to: Message, status: str, response: dict[str, Any]) -> None:
        self._transport.push(reply(to, status, response, self.join_ref))
