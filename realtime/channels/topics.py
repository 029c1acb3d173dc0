"""Who is on which topic: broadcasts and presence among them. No I/O.

A private and a public topic of one name are two topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from onsembl.realtime.channels.presence import Diff, Metas, Presence
from onsembl.realtime.channels.serializer import Frame, Message
from onsembl.realtime.channels.shared import Shared

PREFIX = "realtime:"
"""What a topic is called on the wire, before its name."""

Key = tuple[str, bool]
"""The topic's name and whether it is private."""


class Member(Protocol):
    """A channel, as its topic sees it."""

    @property
    def key(self) -> Key: ...

    def take_broadcast(self, message: Shared, message_id: str | None) -> None:
        """Hear a broadcast, if its policies let it."""
        ...

    def take_presence(self, message: Shared) -> None:
        """Hear who came and who left, if its policies let it."""
        ...


class _Topic:
    def __init__(self) -> None:
        self.members: dict[Member, None] = {}
        self.presence = Presence()


class Topics:
    """The topics that have members."""

    def __init__(self) -> None:
        self._topics: dict[Key, _Topic] = {}

    def enter(self, member: Member) -> None:
        self._topics.setdefault(member.key, _Topic()).members[member] = None

    def leave(self, member: Member) -> None:
        """The member goes, and what it tracked."""
        topic = self._topics.get(member.key)
        if topic is None or member not in topic.members:
            return
        del topic.members[member]
        self._tell(member.key, topic, topic.presence.untrack(member))
        if not topic.members:
            del self._topics[member.key]

    def broadcast(self, key: Key, message: Message, *, but: Member | None = None, message_id: str | None = None) -> int:
        """Give the message to all on the topic except `but`; how many they are."""
        topic = self._topics.get(key)
        if topic is None:
            return 0
        shared = Shared(message)
        members = [member for member in topic.members if member is not but]
        for member in members:
            member.take_broadcast(shared, message_id)
        return len(members)

    def track(self, member: Member, presence_key: str, payload: Mapping[str, Any]) -> None:
        topic = self._topics[member.key]
        self._tell(member.key, topic, topic.presence.track(member, presence_key, payload))

    def untrack(self, member: Member) -> None:
        topic = self._topics[member.key]
        self._tell(member.key, topic, topic.presence.untrack(member))

    def state(self, key: Key) -> Metas:
        """Who is present."""
        topic = self._topics.get(key)
        return topic.presence.state() if topic is not None else {}

    def _tell(self, key: Key, topic: _Topic, diff: Diff | None) -> None:
        if diff is None:
            return
        shared = Shared(Frame(PREFIX + key[0], "presence_diff", diff.payload()))
        for member in list(topic.members):
            member.take_presence(shared)
