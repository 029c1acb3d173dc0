"""One joined topic of one socket, as a state machine. No I/O.

    JOINING ── accepted ──> JOINED ── left, shut ──> CLOSED
       └────── refused ────────────────────────────────^

What comes in is answered through the port, at once. Where the database has to be asked first, `open`, `receive` and
`answer` return a question; what arrives until its answer waits, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol, cast

import orjson

from onsembl.protocol.rates import SlidingWindow
from onsembl.realtime.channels.join import JoinRequest
from onsembl.realtime.channels.limits import ChannelRates, Limits
from onsembl.realtime.channels.questions import (
    Answer,
    AskPolicies,
    AskReplay,
    AskSubscribed,
    Extension,
    Failed,
    Permissions,
    Policies,
    Question,
    Replayed,
    Subscribed,
)
from onsembl.realtime.channels.serializer import Broadcast, Frame, Message, Ref, is_writable, reply
from onsembl.realtime.channels.shared import Shared
from onsembl.realtime.channels.subscription import Subscription, parse_all
from onsembl.realtime.channels.topics import PREFIX, Key, Topics
from onsembl.realtime.tokens import BadToken

SUBSCRIBED = "Subscribed to PostgreSQL"
REPLICATION_READY = "Replication connection established"
TOO_MANY_MESSAGES = "Too many messages per second"

Verify = Callable[[str], dict[str, Any]]
"""The claims of a token. Raises BadToken."""


class State(Enum):
    JOINING = "joining"
    JOINED = "joined"
    CLOSED = "closed"


class Port(Protocol):
    """A channel's socket. Nothing here waits."""

    def push(self, message: Message | Shared) -> None: ...

    def refuse(self, refusal: Frame) -> None:
        """Send this after the pause that a refusal takes."""
        ...

    def follow_changes(self, channel: Channel) -> None:
        """Check its subscriptions and let it have changes; then it is told, by `subscribed`."""
        ...

    def follow_replication(self, channel: Channel) -> None:
        """Tell it, by `replication_ready`, when messages sent by the database arrive."""
        ...

    def closed(self, channel: Channel) -> None:
        """Forget it."""
        ...


class Channel:
    """A topic that a client joined, or is about to."""

    def __init__(
        self,
        frame: Frame,
        request: JoinRequest,
        claims: Mapping[str, Any],
        *,
        port: Port,
        topics: Topics,
        verify: Verify,
        limits: Limits,
        events: SlidingWindow,
    ) -> None:
        self.topic = frame.topic
        self.join_ref: Ref = frame.join_ref
        self.request = request
        self.state = State.JOINING
        self.subscriptions: tuple[Subscription, ...] = ()
        self._join = frame
        self._port, self._topics, self._verify, self._limits = port, topics, verify, limits
        self._token = request.token
        self._rates = ChannelRates(limits, events)
        self._presence = request.presence
        self._permissions = Permissions(request.private)
        self._replayed: frozenset[str] = frozenset()
        self._question: Question | None = None
        self._then: Callable[[Answer], Question | None] | None = None
        self._waiting: deque[tuple[Message, int]] = deque()
        self._now = 0.0
        self._use(claims)

    def _use(self, claims: Mapping[str, Any]) -> None:
        self.role: str = str(claims.get("role", "anon"))
        self.subject = str(claims.get("sub", ""))
        self.claims: str = orjson.dumps(claims).decode()
        self.expires_at = float(claims.get("exp", "inf"))

    @property
    def name(self) -> str:
        """The topic without its prefix."""
        return self.topic.removeprefix(PREFIX)

    @property
    def key(self) -> Key:
        return self.name, self.request.private

    # Joining

    def open(self) -> Question | None:
        """Begin to join."""
        if self.request.replay_refused is not None:
            return self._refuse("UnableToReplayMessages", self.request.replay_refused)
        if not self.request.private:
            return self._accept(())
        return self._ask(AskPolicies(read=self._extensions()), self._admit)

    def _extensions(self) -> frozenset[Extension]:
        return frozenset({"broadcast", "presence"}) if self._presence else frozenset({"broadcast"})

    def _admit(self, _answer: Answer) -> Question | None:
        if not (self._permissions.reads("broadcast") if self.request.replay is not None else self._may_read()):
            return self._refuse("Unauthorized", self._no_read())
        if self.request.replay is None:
            return self._accept(())
        return self._ask(
            AskReplay(self.request.replay),
            lambda answer: self._accept(answer.messages if isinstance(answer, Replayed) else ()),
        )

    def _may_read(self) -> bool:
        return self._permissions.reads("broadcast") or self._permissions.reads("presence")

    def _no_read(self) -> str:
        return f"You do not have permissions to read from this Channel topic: {self.name}"

    def _accept(self, replayed: tuple[Broadcast, ...]) -> Question | None:
        self._replayed = frozenset(str(message.meta.get("id")) for message in replayed)
        answer, self.subscriptions, refusal = parse_all(self.request.postgres_changes)
        if self.subscriptions and self.request.wait:
            timeout = min(self.request.wait_timeout or self._limits.subscribe_wait, self._limits.subscribe_wait_max)
            return self._ask(AskSubscribed(timeout), lambda told: self._joined(answer, replayed, told))
        return self._joined(answer, replayed, Subscribed(refusal) if refusal is not None else None)

    def _joined(
        self, answer: list[dict[str, Any]], replayed: tuple[Broadcast, ...], told: Answer | None
    ) -> Question | None:
        """The join is granted; `told` is what is known already about its subscriptions."""
        self.state = State.JOINED
        self._topics.enter(self)
        self._reply(self._join, "ok", {"postgres_changes": answer})
        for message in replayed:
            self._port.push(message)
        if self._presence:
            self._push_presence_state()
        if isinstance(told, Subscribed):
            self.subscribed(told.error)
        elif self.subscriptions:
            self._port.follow_changes(self)
        if self.request.replication_ready:
            self._port.follow_replication(self)
        return self._go_on()

    def _refuse(self, code: str, message: str) -> None:
        """The join is not granted."""
        self.state = State.CLOSED
        self._port.refuse(reply(self._join, "error", {"reason": f"{code}: {message}"}))
        self._port.closed(self)

    # Questions to the database

    def _ask(self, question: Question, then: Callable[[Answer], Question | None]) -> Question:
        self._question, self._then = question, then
        return question

    def answer(self, answer: Answer) -> Question | None:
        """The answer to the last question; perhaps the next one."""
        question, then = self._question, self._then
        self._question = self._then = None
        if then is None or self.state is State.CLOSED:
            return None
        if isinstance(answer, Failed):
            if self.state is State.JOINING:
                return self._refuse(answer.code, answer.message)
            return self.shut(answer.message)
        if isinstance(question, AskPolicies) and isinstance(answer, Policies):
            self._permissions.learn(question, answer)
        return then(answer) or self._go_on()

    def _go_on(self) -> Question | None:
        """Take what has waited."""
        while self._waiting and self._question is None and self.state is State.JOINED:
            message, size = self._waiting.popleft()
            if (question := self._take(message, size, self._now)) is not None:
                return question
        return None

    # What the client sends

    def receive(self, message: Message, size: int, now: float) -> Question | None:
        """A message of the client's, of `size` bytes. `now` in seconds, of a clock that never goes back."""
        self._now = now
        if self.state is State.CLOSED:
            return None
        if self._question is None and self.state is State.JOINED:
            return self._take(message, size, now)
        if isinstance(message, Frame) and message.event == "phx_leave":
            return self._leave(message)
        self._waiting.append((message, size))
        if len(self._waiting) > self._limits.waiting_messages:
            self.shut(TOO_MANY_MESSAGES)
        return None

    def _take(self, message: Message, size: int, now: float) -> Question | None:
        if isinstance(message, Broadcast) or message.event == "broadcast":
            return self._take_broadcast(message, size, now)
        match message.event:
            case "presence":
                return self._take_presence(message, size, now)
            case "access_token":
                return self._renew(message.payload.get("access_token"))
            case "phx_leave":
                return self._leave(message)
            case _:  # not known: ignored, but counted
                return None if self._rates.events.add(now) else self.shut(TOO_MANY_MESSAGES)

    def _leave(self, frame: Frame) -> None:
        self._reply(frame, "ok", {})
        self.close()

    def _take_broadcast(self, message: Message, size: int, now: float) -> Question | None:
        if not self._permissions.knows_write("broadcast"):
            return self._ask(
                AskPolicies(write=frozenset({"broadcast"})), lambda _: self._take_broadcast(message, size, now)
            )
        if not self._permissions.writes("broadcast"):
            return None  # silently, as the real service does
        if not self._rates.events.add(now):
            return self.shut(TOO_MANY_MESSAGES)
        fits = size <= self._limits.payload_bytes
        if fits:
            if isinstance(message, Broadcast):
                relayed: Message = Broadcast(self.topic, message.event, message.body, message.is_json)
            else:
                relayed = Frame(self.topic, "broadcast", message.payload)
            self._topics.broadcast(self.key, relayed, but=None if self.request.to_self else self)
        if self.request.ack:
            self._reply(message, *(("ok", {}) if fits else ("error", {"error": "payload_size_exceeded"})))
        return None

    def _take_presence(self, frame: Frame, size: int, now: float) -> Question | None:
        event: object = frame.payload.get("event")
        if not isinstance(event, str):
            return self._reply(frame, "ok", {})
        if not self._rates.presence_calls.add(now):
            return self.shut("Client presence rate limit exceeded")
        match event.lower():
            case "track" if not self._permissions.knows_write("presence"):
                extensions: frozenset[Extension] = frozenset({"presence"})
                return self._ask(AskPolicies(extensions, extensions), lambda _: self._track(frame, size, now))
            case "track":
                return self._track(frame, size, now)
            case "untrack":
                self._topics.untrack(self)
                return self._reply(frame, "ok", {})
            case _:
                return self._reply(frame, "error", {})

    def _track(self, frame: Frame, size: int, now: float) -> None:
        if not self._permissions.writes("presence"):
            return self._reply(frame, "error", {})
        payload: object = frame.payload.get("payload", {})
        if not isinstance(payload, dict) or not is_writable(payload):  # pyright: ignore[reportUnknownArgumentType]
            return self._reply(frame, "error", {"reason": "Presence track payload must be a map"})
        if size > self._limits.payload_bytes:
            return self.shut("Track message size exceeded")
        if not self._rates.presence_events.add(now):
            return self.shut("Too many presence messages per second")
        if not self._presence:  # who tracks wants to know of others too
            self._presence = True
            self._push_presence_state()
        self._topics.track(self, self.request.presence_key, cast(dict[str, Any], payload))
        return self._reply(frame, "ok", {})

    def _renew(self, token: object) -> Question | None:
        """Go on under another token."""
        if not isinstance(token, str) or token.startswith("sb_") or token == self._token:
            return None
        try:
            claims = self._verify(token)
        except BadToken as error:
            return self.shut(error.message)
        self._token = token
        self._use(claims)
        if not self.request.private:
            return self._renewed(frozenset())
        readable = self._permissions.forget()
        return self._ask(AskPolicies(read=self._extensions() | readable), lambda _: self._renewed(readable))

    def _renewed(self, readable: frozenset[Extension]) -> None:
        if not self._may_read():
            return self.shut(self._no_read())
        if any(not self._permissions.reads(extension) for extension in readable):
            return self.shut(f"You no longer have permission to read from this Channel topic: {self.name}")
        if self.subscriptions:
            self._port.follow_changes(self)
        return None

    # What the channel is told

    def take_broadcast(self, message: Shared, message_id: str | None) -> None:
        """A broadcast on its topic."""
        if self._permissions.reads("broadcast") and message_id not in self._replayed:
            self._port.push(message)

    def take_presence(self, message: Shared) -> None:
        """Others came or went."""
        if self._permissions.reads("presence"):
            self._port.push(message)

    def take_change(self, message: Shared) -> None:
        """A change that it may see."""
        if self.state is State.JOINED:
            self._port.push(message)

    def subscribed(self, error: str | None) -> None:
        """Changes flow, or never will."""
        if self.state is State.JOINED:
            self.system("postgres_changes", "ok" if error is None else "error", error or SUBSCRIBED)

    def replication_ready(self, *, ready: bool) -> None:
        """Messages that the database sends arrive, or did not come to in time."""
        if self.state is not State.JOINED:
            return
        if ready:
            self.system("system", "ok", REPLICATION_READY)
        else:
            self.shut("Replication connection was not established in time")

    def check(self, unix_time: float) -> None:
        """Its token may have expired."""
        if self.state is State.JOINED and unix_time >= self.expires_at:
            self.shut(f"Token has expired {int(unix_time - self.expires_at)} seconds ago")

    # Ending

    def shut(self, message: str) -> None:
        """End it and say why."""
        self.system("system", "error", message)
        self.close()

    def close(self) -> None:
        """End it, and tell the client."""
        if self.state is not State.CLOSED:
            self._port.push(Frame(self.topic, "phx_close", {}, self.join_ref, self.join_ref))
            self.drop()

    def crash(self) -> None:
        """End it because of a fault of ours; the client joins again by itself."""
        if self.state is not State.CLOSED:
            self._port.push(Frame(self.topic, "phx_error", {}, self.join_ref, self.join_ref))
            self.drop()

    def drop(self) -> None:
        """End it; the client is gone."""
        self.state = State.CLOSED
        self._waiting.clear()
        self._topics.leave(self)
        self._port.closed(self)

    # Saying

    def system(self, extension: str, status: str, message: str) -> None:
        """A `system` message."""
        payload = {"extension": extension, "status": status, "message": message, "channel": self.name}
        self._port.push(Frame(self.topic, "system", payload, join_ref=self.join_ref))

    def _push_presence_state(self) -> None:
        if self._permissions.reads("presence"):
            self._port.push(Frame(self.topic, "presence_state", self._topics.state(self.key)))

    def _reply(self, to: Message, status: str, response: dict[str, Any]) -> None:
        self._port.push(reply(to, status, response, self.join_ref))
