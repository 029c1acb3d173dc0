"""The topics of one process with their members: broadcasts and presence among the members. No I/O.

A private and a public topic of the same name are two topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from onsembl.realtime.channels.presence import Metas, PresenceDiff, TopicPresence
from onsembl.realtime.channels.serializer import Frame, Message, SharedMessage

PREFIX = "realtime:"
"""Precedes a topic's name on the wire."""

TopicKey = tuple[str, bool]
"""The topic's name and whether it is private."""


class TopicMember(Protocol):
    """A channel that has joined a topic."""

    @property
    def key(self) -> TopicKey:
        """The channel's topic."""
        ...

    def push_broadcast(self, message: SharedMessage, message_id: str | None) -> None:
        """Push a broadcast to the client, if the channel may read broadcasts. `message_id` names a stored one."""
        ...

    def push_presence(self, message: SharedMessage) -> None:
        """Push a `presence_diff` to the client, if the channel may read presence."""
        ...


class _Topic:
    def __init__(self) -> None:
        self.members: dict[TopicMember, None] = {}
        self.presence = TopicPresence()


class Topics:
    """The topics that have members."""

    def __init__(self) -> None:
        self._topics: dict[TopicKey, _Topic] = {}

    def join(self, member: TopicMember) -> None:
        self._topics.setdefault(member.key, _Topic()).members[member] = None

    def leave(self, member: TopicMember) -> None:
        """Remove the member and its tracked payload."""
        topic = self._topics.get(member.key)
        if topic is None or member not in topic.members:
            return
        del topic.members[member]
        self._push_diff(member.key, topic, topic.presence.untrack(member))
        if not topic.members:
            del self._topics[member.key]

    def broadcast(
        self, key: TopicKey, message: Message, *, exclude: TopicMember | None = None, message_id: str | None = None
    ) -> int:
        """Send the message to the topic's members except `exclude`. Returns the number of receivers."""
        topic = self._topics.get(key)
        if topic is None:
            return 0
        shared = SharedMessage(message)
        members = [member for member in topic.members if member is not exclude]
        for member in members:
            member.push_broadcast(shared, message_id)
        return len(members)

    def track(self, member: TopicMember, presence_key: str, payload: Mapping[str, Any]) -> None:
        topic = self._topics[member.key]
        self._push_diff(member.key, topic, topic.presence.track(member, presence_key, payload))

    def untrack(self, member: TopicMember) -> None:
        topic = self._topics[member.key]
        self._push_diff(member.key, topic, topic.presence.untrack(member))

    def presence_state(self, key: TopicKey) -> Metas:
        """The contents of the topic's `presence_state`."""
        topic = self._topics.get(key)
        return topic.presence.state() if topic is not None else {}

    def _push_diff(self, key: TopicKey, topic: _Topic, diff: PresenceDiff | None) -> None:
        if diff is None:
            return
        shared = SharedMessage(Frame(PREFIX + key[0], "presence_diff", diff.payload()))
        for member in list(topic.members):
            member.push_presence(shared)
