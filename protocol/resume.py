"""The offset at which an agent that connects resumes its stream: the first byte that the server may not keep."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from onsembl.protocol.messages import StreamTail


@dataclass(frozen=True, slots=True)
class HeldBytes:
    """The bytes of a stream in an API process.

    Bytes from `start` up to `end` wait for the archive; viewers have the bytes up to `live`.
    """

    stream_id: UUID
    start: int
    end: int
    live: int


def resume_offset(tail: StreamTail, archived: int, held: HeldBytes | None) -> int | None:
    """The offset at which the agent resumes its stream; None when it must begin a new stream.

    `archived` is the end of the stream's archive. The stream cannot be resumed when the agent no longer has a needed
    byte, or lacks bytes that the server already has: then the agent has lost them, and would give their offsets to
    other bytes.
    """
    if held is None or held.stream_id != tail.id:
        wanted = newest = archived
    else:
        # Bytes in memory that continue the archive need not be sent again.
        wanted = held.end if held.start <= archived <= held.end else archived
        newest = max(archived, held.live)
    if not tail.start <= wanted or tail.end < newest:
        return None
    return wanted
