"""What a channel has to ask the database before it can go on, and the answers. A channel asks one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from onsembl.realtime.channels.join import Replay
from onsembl.realtime.channels.serializer import Broadcast

Extension = Literal["broadcast", "presence"]


@dataclass(frozen=True, slots=True)
class AskPolicies:
    """What the policies on `realtime.messages` let the channel's claims read and write on its topic."""

    read: frozenset[Extension] = frozenset()
    write: frozenset[Extension] = frozenset()


@dataclass(frozen=True, slots=True)
class AskReplay:
    """The stored messages of the topic."""

    replay: Replay


@dataclass(frozen=True, slots=True)
class AskSubscribed:
    """To be told when changes flow; not later than after `timeout` seconds."""

    timeout: float


Question = AskPolicies | AskReplay | AskSubscribed


@dataclass(frozen=True, slots=True)
class Policies:
    """Of what was asked for, what is allowed."""

    read: frozenset[Extension] = frozenset()
    write: frozenset[Extension] = frozenset()


@dataclass(frozen=True, slots=True)
class Replayed:
    """Stored messages, oldest first."""

    messages: tuple[Broadcast, ...] = ()


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Changes flow, or `error` says why they never will."""

    error: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer is to be had; a join is refused with it, and a live channel is shut with its message."""

    code: str
    message: str


Answer = Policies | Replayed | Subscribed | Failed


@dataclass(slots=True)
class Permissions:
    """What a channel may do on its topic; what is in neither set of a pair has not been asked yet."""

    private: bool
    _allowed: Policies = field(default_factory=Policies)
    _asked: AskPolicies = field(default_factory=AskPolicies)

    def reads(self, extension: Extension) -> bool:
        return not self.private or extension in self._allowed.read

    def writes(self, extension: Extension) -> bool:
        return not self.private or extension in self._allowed.write

    def knows_write(self, extension: Extension) -> bool:
        return not self.private or extension in self._asked.write

    def knows_read(self, extension: Extension) -> bool:
        return not self.private or extension in self._asked.read

    def learn(self, asked: AskPolicies, allowed: Policies) -> None:
        self._asked = AskPolicies(self._asked.read | asked.read, self._asked.write | asked.write)
        self._allowed = Policies(
            (self._allowed.read - asked.read) | allowed.read, (self._allowed.write - asked.write) | allowed.write
        )

    def forget(self) -> frozenset[Extension]:
        """The claims are others now; what could be read with the last ones."""
        readable = self._allowed.read
        self._allowed, self._asked = Policies(), AskPolicies()
        return readable
