"""The channels that subscribe to changes, in groups, so that each check is made once for a group. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from onsembl.realtime.channels.serializer import SharedMessage
from onsembl.realtime.channels.subscription import Subscription

Identity = tuple[str, str]
"""A role and its claims, as JSON."""


class Subscriber(Protocol):
    """A channel with `postgres_changes` subscriptions."""

    topic: str
    role: str
    claims: str
    subscriptions: tuple[Subscription, ...]

    def push_change(self, message: SharedMessage) -> None:
        """Push a change to the client."""
        ...


@dataclass(frozen=True, slots=True)
class SubscriberGroup:
    """Subscribers to one kind of change with equal claims and equal subscriptions to it."""

    identity: Identity
    subscriptions: tuple[Subscription, ...]
    members: Sequence[Subscriber]

    @property
    def role(self) -> str:
        return self.identity[0]


class Subscribers:
    """All subscribers of one process."""

    def __init__(self) -> None:
        self._subscribers: dict[Subscriber, None] = {}
        self._groups: dict[tuple[str, str, str], list[SubscriberGroup]] = {}

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._subscribers

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber, or add it again after its claims changed."""
        self._subscribers[subscriber] = None
        self._groups.clear()

    def remove(self, subscriber: Subscriber) -> None:
        if subscriber in self._subscribers:
            del self._subscribers[subscriber]
            self._groups.clear()

    def groups(self, kind: str, schema: str, table: str) -> list[SubscriberGroup]:
        """The groups that subscribe to this kind of change of this table, before filters and row-level security."""
        key = (kind, schema, table)
        groups = self._groups.get(key)
        if groups is None:
            groups = self._groups[key] = self._group(kind, schema, table)
        return groups

    def _group(self, kind: str, schema: str, table: str) -> list[SubscriberGroup]:
        members: dict[tuple[Identity, tuple[Subscription, ...]], list[Subscriber]] = {}
        for subscriber in self._subscribers:
            matching = tuple(s for s in subscriber.subscriptions if s.matches(kind, schema, table))
            if matching:
                members.setdefault(((subscriber.role, subscriber.claims), matching), []).append(subscriber)
        return [SubscriberGroup(identity, matching, tuple(found)) for (identity, matching), found in members.items()]
