"""The channels that follow changes, grouped so that what holds for many is found out once. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from onsembl.realtime.channels.shared import Shared
from onsembl.realtime.channels.subscription import Subscription

Identity = tuple[str, str]
"""A role and its claims, as JSON."""


class Follower(Protocol):
    """A channel that follows changes."""

    topic: str
    role: str
    claims: str
    subscriptions: tuple[Subscription, ...]

    def take_change(self, message: Shared) -> None: ...


@dataclass(frozen=True, slots=True)
class Group:
    """Followers of one kind of change with the same claims and the same subscriptions to it."""

    identity: Identity
    subscriptions: tuple[Subscription, ...]
    members: Sequence[Follower]

    @property
    def role(self) -> str:
        return self.identity[0]


class Followers:
    """Who follows what."""

    def __init__(self) -> None:
        self._followers: dict[Follower, None] = {}
        self._groups: dict[tuple[str, str, str], list[Group]] = {}

    def __len__(self) -> int:
        return len(self._followers)

    def __contains__(self, follower: Follower) -> bool:
        return follower in self._followers

    def add(self, follower: Follower) -> None:
        """It follows from here on; also to be said when its claims have changed."""
        self._followers[follower] = None
        self._groups.clear()

    def remove(self, follower: Follower) -> None:
        if follower in self._followers:
            del self._followers[follower]
            self._groups.clear()

    def of(self, kind: str, schema: str, table: str) -> list[Group]:
        """Whom such a change concerns, filters and row-level security aside."""
        key = (kind, schema, table)
        groups = self._groups.get(key)
        if groups is None:
            groups = self._groups[key] = self._group(kind, schema, table)
        return groups

    def _group(self, kind: str, schema: str, table: str) -> list[Group]:
        members: dict[tuple[Identity, tuple[Subscription, ...]], list[Follower]] = {}
        for follower in self._followers:
            wanted = tuple(s for s in follower.subscriptions if s.wants(kind, schema, table))
            if wanted:
                members.setdefault(((follower.role, follower.claims), wanted), []).append(follower)
        return [Group(identity, wanted, tuple(found)) for (identity, wanted), found in members.items()]
