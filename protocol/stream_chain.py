"""Streams of an agent that continue each other: where an offset of one is, when the bytes go on in the next.

A stream that cannot be resumed ends where its archive ends, and another begins. Bytes of the chain are counted over the
archived bytes of its streams, one after the other. So an offset of the first stream counts the same byte for ever, and
an offset past its end counts bytes of the streams that follow. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onsembl.protocol.ids import StreamId
from onsembl.protocol.stream import MAX_OFFSET


@dataclass(frozen=True, slots=True)
class Link:
    """A stream of the chain. Its first byte has the offset `at` by the agent's count, which goes on from the stream at
    which the chain was asked for; `length` is the end of its archive. Only that of the last link may grow."""

    stream_id: StreamId
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one stream, from `start` to `end` (exclusive). Its offset 0 is counted as `base` in the chain."""

    stream_id: StreamId
    start: int
    end: int
    base: int


@dataclass(frozen=True, slots=True)
class StreamChain:
    """The streams of a chain, at least one, in the order of their bytes."""

    links: Sequence[Link]

    @property
    def end(self) -> int:
        """The end of what is archived."""
        return sum(link.length for link in self.links)

    def counted(self, offset: int, *, in_last: bool = False) -> int:
        """The count of the byte that has this offset by the agent's count.

        By the agent's count, bytes may be missing between two streams: the archive has lost them. Bytes may have the
        same offset in two: the agent has lost those of the first. Then the first is meant, unless the byte is
        known to be `in_last`, the last stream.
        """
        base, last = 0, len(self.links) - 1
        for number, link in enumerate(self.links):
            place = max(0, offset - link.at)
            if number == last or (place <= link.length and not in_last):
                return min(base + place, MAX_OFFSET)
            base += link.length
        raise AssertionError("a chain has a stream")

    def spans(self, start: int, end: int) -> list[Span]:
        """The parts of the streams that have the bytes from `start` to `end`."""
        spans: list[Span] = []
        base = 0
        for link in self.links:
            first, upto = max(0, start - base), min(link.length, end - base)
            if first < upto:
                spans.append(Span(link.stream_id, first, upto, base))
            base += link.length
        return spans
