"""The place at which an agent that connects goes on with its output: where the archive ends, never before.

The agent tells which bytes of its stream it still has. The stream is resumed, or a new one begins: with the first byte
that the archive lacks and the agent has.
"""

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
    byte, or lacks bytes that the server already has: then the agent has lost them, and has given, or would give, their
    offsets to other bytes.
    """
    if held is None or held.stream_id != tail.id:
        wanted = newest = archived
    else:
        # Bytes in memory that continue the archive need not be sent again.
        wanted = held.end if held.start <= archived <= held.end else archived
        newest = max(archived, held.live)
    if not tail.start <= wanted or _sent_end(tail) < newest:
        return None
    return wanted


def new_stream_offset(tail: StreamTail, archived: int) -> int:
    """The offset in the agent's present stream at which its new stream begins.

    `archived` is the end of the archive of the agent's output, by the offsets of the present stream; 0 when the server
    does not know that stream. An agent of the first release begins with all bytes that it has.
    """
    if tail.sent_end is None:
        return tail.start
    return max(tail.start, min(archived, _sent_end(tail)))


def _sent_end(tail: StreamTail) -> int:
    return tail.end if tail.sent_end is None else min(tail.sent_end, tail.end)
