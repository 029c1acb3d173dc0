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

    @property
    def payer(self) -> str:
        """The user or the network that answers for the cost of the filters."""
        ...

    def push_change(self, message: SharedMessage) -> None:
        """Push a change to the client."""
        ...

    def end_changes(self, reason: str) -> None:
        """Tell the client that it gets no more changes."""
        ...

    def miss_changes(self) -> None:
        """Have the client join again and read its rows anew."""
        ...


@dataclass(frozen=True, slots=True)
class SubscriberGroup:
    """Subscribers to one kind of change with equal claims and equal subscriptions to it.

    `payer` answers for their filters; None when none of their subscriptions, to whatever change, has a filter.
    """

    identity: Identity
    payer: str | None
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

    def with_filters(self, payer: str) -> list[Subscriber]:
        """The payer's subscribers with filters."""
        return [s for s in self._subscribers if s.payer == payer and has_filters(s)]

    def groups(self, kind: str, schema: str, table: str) -> list[SubscriberGroup]:
        """The groups that subscribe to this kind of change of this table, before filters and row-level security."""
        key = (kind, schema, table)
        groups = self._groups.get(key)
        if groups is None:
            groups = self._groups[key] = self._group(kind, schema, table)
        return groups

    def _group(self, kind: str, schema: str, table: str) -> list[SubscriberGroup]:
        members: dict[tuple[Identity, str | None, tuple[Subscription, ...]], list[Subscriber]] = {}
        for subscriber in self._subscribers:
            matching = tuple(s for s in subscriber.subscriptions if s.matches(kind, schema, table))
            if matching:
                # All changes of a subscriber take the same way, so that they stay in order.
                payer = subscriber.payer if has_filters(subscriber) else None
                members.setdefault(((subscriber.role, subscriber.claims), payer, matching), []).append(subscriber)
        return [SubscriberGroup(*key, tuple(found)) for key, found in members.items()]


def has_filters(subscriber: Subscriber) -> bool:
    """Whether one of the subscriptions has a filter."""
    return any(subscription.filters for subscription in subscriber.subscriptions)
