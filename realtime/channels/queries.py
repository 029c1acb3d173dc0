"""The queries that a channel makes to the database before it continues, and their results.

A channel has one open query at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from onsembl.realtime.channels.join import Replay
from onsembl.realtime.channels.serializer import BroadcastMessage

Extension = Literal["broadcast", "presence"]


@dataclass(frozen=True, slots=True)
class PolicyQuery:
    """Which extensions do the policies on `realtime.messages` let the channel's claims read and write?"""

    read: frozenset[Extension] = frozenset()
    write: frozenset[Extension] = frozenset()


@dataclass(frozen=True, slots=True)
class ReplayQuery:
    """Which stored messages does the topic have?"""

    replay: Replay


@dataclass(frozen=True, slots=True)
class SubscriptionQuery:
    """Does the `postgres_changes` subscription deliver changes? Answered at the latest after `timeout` seconds."""

    timeout: float


Query = PolicyQuery | ReplayQuery | SubscriptionQuery


@dataclass(frozen=True, slots=True)
class Policies:
    """The extensions of a PolicyQuery that the policies allow."""

    read: frozenset[Extension] = frozenset()
    write: frozenset[Extension] = frozenset()


@dataclass(frozen=True, slots=True)
class Replayed:
    """Stored messages, oldest first."""

    messages: tuple[BroadcastMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The subscription delivers changes, or never will because of `error`."""

    error: str | None = None


@dataclass(frozen=True, slots=True)
class QueryFailed:
    """The query has no result. It rejects a join with code and message, or closes a joined channel with the message."""

    code: str
    message: str


QueryResult = Policies | Replayed | Subscribed | QueryFailed


@dataclass(slots=True)
class Permissions:
    """The channel's permissions on its topic, as far as they were queried. A public topic allows everything."""

    private: bool
    _allowed: Policies = field(default_factory=Policies)
    _queried: PolicyQuery = field(default_factory=PolicyQuery)

    def may_read(self, extension: Extension) -> bool:
        return not self.private or extension in self._allowed.read

    def may_write(self, extension: Extension) -> bool:
        return not self.private or extension in self._allowed.write

    def knows_write(self, extension: Extension) -> bool:
        """Whether the permission to write was queried."""
        return not self.private or extension in self._queried.write

    def learn(self, queried: PolicyQuery, allowed: Policies) -> None:
        """Take over the result of a query."""
        self._queried = PolicyQuery(self._queried.read | queried.read, self._queried.write | queried.write)
        self._allowed = Policies(
            (self._allowed.read - queried.read) | allowed.read, (self._allowed.write - queried.write) | allowed.write
        )

    def forget(self) -> frozenset[Extension]:
        """Forget all permissions because the claims changed. Returns the extensions that could be read until now."""
        readable = self._allowed.read
        self._allowed, self._queried = Policies(), PolicyQuery()
        return readable
