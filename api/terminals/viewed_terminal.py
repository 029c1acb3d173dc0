"""An agent's terminal as viewers see it: the ring that holds the stream's tail, and the viewers that read it.

This is the path of terminal bytes. Nothing on it waits for a database or for another viewer, or changes a byte.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from onsembl.api.terminals.sessions import ELSEWHERE, FAILED
from onsembl.protocol.byte_times import ByteTimes
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.control import Control
from onsembl.protocol.ids import Epoch, StreamId
from onsembl.protocol.ring import Ring
from onsembl.protocol.terminal_modes import TerminalModes

logger = logging.getLogger(__name__)

VIEWER_FAILED = "A viewer failed by an internal error"
SAMPLED = 32
"""One chunk in this many is timed on its way to the viewers."""
MAX_SIZE_CHANGES = 256
"""Only the latest changes of size are kept; viewers that are further behind get a later size."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a pseudo-terminal, in cells."""

    columns: int
    rows: int


class Sizes:
    """The sizes of one stream's terminal, each from a byte offset on."""

    def __init__(self, start: int, size: Size) -> None:
        self._offsets = [start]
        self._sizes = [size]
        self.newest = size
        """The size from the last change on. That change may lie ahead of the bytes that have come."""

    def change(self, offset: int, size: Size) -> None:
        """Set the size from the byte at `offset` on, though never from before the last change."""
        self._offsets.append(max(offset, self._offsets[-1]))
        self._sizes.append(size)
        self.newest = size
        del self._offsets[:-MAX_SIZE_CHANGES], self._sizes[:-MAX_SIZE_CHANGES]

    def at(self, offset: int) -> Size:
        """The size at the byte at `offset`; the oldest known size if the byte is older."""
        return self._sizes[max(0, bisect_right(self._offsets, offset) - 1)]

    def next_change(self, offset: int) -> int | None:
        """The offset of the first change after `offset`; None when there is none."""
        index = bisect_right(self._offsets, offset)
        return self._offsets[index] if index < len(self._offsets) else None


@dataclass(frozen=True, slots=True)
class Sample:
    """The bytes below the offset `end` had arrived at the time `at`, by the monotonic clock."""

    end: int
    at: float


class TerminalSubscriber(Protocol):
    """A viewer, as the terminal sees it. Its methods may not wait. One that raises is closed."""

    def follow(self, start: int, data: bytes) -> None:
        """The ring has the new bytes `data`, of which the first is at `start`."""
        ...

    def wake(self) -> None:
        """Something other than bytes may have changed."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the viewer's connection with this code."""
        ...


class ViewedTerminal(ABC):
    """The newest stream of one agent, from a connection of the agent or of the instance that has one.

    `stream_id` is None until the agent has connected for the first time.
    """

    archived_elsewhere = False
    """Whether another instance writes the archive, and bytes that it lacks may yet wait there."""

    def __init__(self, ring_bytes: int, stream_id: StreamId | None, start: int, size: Size) -> None:
        self._ring_bytes = ring_bytes
        self._subscribers: set[TerminalSubscriber] = set()
        self._unsampled = 0
        self.control = Control()
        """Who types. Where the agent is at another instance, this is a copy: that instance decides."""
        self.control_changing = asyncio.Lock()
        self.epoch = Epoch(0)
        """The newest connection of the agent that this terminal knows. One under a later epoch is elsewhere."""
        self.ended = False
        """Whether the agent is elsewhere, and viewers have to attach again."""
        self._set_stream(stream_id, start, size)

    def _set_stream(self, stream_id: StreamId | None, start: int, size: Size) -> None:
        """Begin with an empty ring at the byte `start` of a stream."""
        self.stream_id = stream_id
        self.sample: Sample | None = None
        self.ring = Ring(self._ring_bytes, start)
        self.modes = TerminalModes(start)
        self.times = ByteTimes()
        self.sizes = Sizes(start, size)

    @property
    def size(self) -> Size:
        """The newest size that the agent has reported."""
        return self.sizes.newest

    @property
    @abstractmethod
    def upto(self) -> int:
        """The offset up to which a viewer may have seen the stream, by way of another process."""

    @abstractmethod
    def unarchived(self, start: int, count: int) -> bytes:
        """Bytes from `start` on that wait here for the archive; empty when they do not."""

    @abstractmethod
    def comes_again(self, start: int) -> bool:
        """Whether the agent will send the bytes from `start` on again, because the archive was full."""

    def end(self) -> None:
        """The agent is elsewhere: close the viewers, who find it there."""
        self.ended = True
        for subscriber in list(self._subscribers):
            subscriber.close(CloseCode.ELSEWHERE, ELSEWHERE)

    def _append(self, data: bytes, end: int) -> None:
        """Append the next bytes, up to the offset `end`, and pass them to the viewers."""
        start = self.ring.end
        self.ring.append(data)
        self._unsampled -= 1
        if self._unsampled < 0:
            self._unsampled = SAMPLED
            self.sample = Sample(end, monotonic())
        failed: list[TerminalSubscriber] = []
        for subscriber in self._subscribers:
            try:
                subscriber.follow(start, data)
            except Exception:
                logger.exception(VIEWER_FAILED, extra={"action": "viewer_failed"})
                failed.append(subscriber)
        self._drop(failed)
        self.modes.feed(data)  # after the viewers, since it can wait

    def subscribe(self, subscriber: TerminalSubscriber) -> None:
        """Call the subscriber whenever there is something new."""
        self._subscribers.add(subscriber)

    def unsubscribe(self, subscriber: TerminalSubscriber) -> None:
        """Call the subscriber no more."""
        self._subscribers.discard(subscriber)

    @property
    def viewers(self) -> int:
        """The number of subscribed viewers."""
        return len(self._subscribers)

    def wake(self) -> None:
        """Have every viewer look for changes other than bytes."""
        failed: list[TerminalSubscriber] = []
        for subscriber in self._subscribers:
            try:
                subscriber.wake()
            except Exception:
                logger.exception(VIEWER_FAILED, extra={"action": "viewer_failed"})
                failed.append(subscriber)
        self._drop(failed)

    def _drop(self, failed: list[TerminalSubscriber]) -> None:
        """End viewers whose methods have failed: they harm neither the agent nor the other viewers."""
        for subscriber in failed:
            self._subscribers.discard(subscriber)
            subscriber.close(CloseCode.INTERNAL_ERROR, FAILED)
