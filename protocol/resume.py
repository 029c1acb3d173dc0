"""Where an agent that connects goes on with its stream: at the first byte that nobody here is sure to keep."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from onsembl.protocol.messages import StreamTail


@dataclass(frozen=True, slots=True)
class HeldBytes:
    """What a process still has of a stream: bytes for the archive, `start` up to `end`, and how far viewers have it."""

    stream_id: UUID
    start: int
    end: int
    live: int


def resume_offset(tail: StreamTail, archived: int, held: HeldBytes | None) -> int | None:
    """The offset at which the agent goes on; None when its stream cannot go on.

    `archived` is where the archive of the stream ends. It cannot go on when the agent no longer has a byte that is
    needed, or has not made bytes that are here already: then it lost some, and would number others like them.
    """
    if held is None or held.stream_id != tail.id:
        wanted = newest = archived
    else:
        # Bytes in memory that join on to the archive need not come again.
        wanted = held.end if held.start <= archived <= held.end else archived
        newest = max(archived, held.live)
    if not tail.start <= wanted or tail.end < newest:
        return None
    return wanted
