"""The terminal's bytes until the server keeps them: on disk before they are sent, so that they survive this process.

Bytes are spooled before they are sent. So when the agent dies, its next start has every byte that the server has, and
goes on with the same stream, byte for byte. The newest bytes are in memory too. While the disk is full, memory alone
keeps them, up to its bound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import msgspec

from onsembl.agent.link.durable import replace_file
from onsembl.agent.link.spool import SEGMENT_BYTES, Spool
from onsembl.protocol.messages import MAX_EARLIER_STREAMS, EarlierStream
from onsembl.protocol.ring import BehindRing, Ring
from onsembl.protocol.stream import AcknowledgedUnsent, CannotResume

logger = logging.getLogger(__name__)

MEMORY_BYTES = 4 * 1024 * 1024
_SLACK_BYTES = 1024 * 1024
"""Room for the last output of a program that has ended, which is taken even by a full outbox."""
SPOOL_BYTES = 64 * 1024 * 1024
"""How much output may wait for the server before programs have to wait."""
_NAME = "stream.json"


class _EarlierName(msgspec.Struct, frozen=True):
    """A stream before; the byte at place `base` of the spool has offset 0 in it."""

    stream_id: UUID
    base: int


class _StreamName(msgspec.Struct, frozen=True):
    """The stream to which the spool's bytes belong; the byte at place `base` of the spool has offset 0 in it.

    Bytes from the place `unsent` on were written by runs of the agent that were not connected. `earlier` has the
    streams before, the latest first.
    """

    agent_id: UUID
    stream_id: UUID
    base: int
    unsent: int | None = None
    earlier: list[_EarlierName] = []


class Outbox:
    """The sender of a stream: numbers bytes, sends them in order, and keeps them until they are acknowledged.

    The caller keeps the bound: it stops reading its source while the outbox is `full`, for `append` takes all bytes.
    The constructor raises OSError when the folder cannot be used. `on_failed` gets the text of each error in writing.
    """

    def __init__(
        self,
        folder: Path,
        agent_id: UUID,
        *,
        capacity: int = SPOOL_BYTES,
        memory: int = MEMORY_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._agent_id = agent_id
        self._capacity = capacity
        self._memory_bytes = memory
        self._name_file = folder / _NAME
        self._spool = Spool(folder, segment_bytes)
        self.failure: str | None = None
        """The error of the last write; None when it succeeded."""
        self.on_failed: Callable[[str], None] = lambda _text: None
        self.stream_id: UUID | None = None
        """The stream to which the bytes belong: before the first connection, an id of the agent's own. None only if
        that id cannot be written, so that no later run would know it."""
        self._base = self._spool.start
        """The place in the spool of the stream's offset 0."""
        self._unsent: int | None = None
        """The place from which on no byte was sent, as it stands in the file."""
        self._earlier: list[_EarlierName] = []
        self._continues = self._load()
        """Whether the places are those of the earlier run; otherwise its bytes are lost."""
        self.start = max(0, self._spool.start - self._base)
        """The oldest byte that is kept."""
        self.sent = self.start
        """The next byte to send."""
        self.end = self._spool.end - self._base
        """The offset of the next byte that is appended."""
        self._found_end: int | None = self.end if self._unsent is None else max(0, self._unsent - self._base)
        """The end of the bytes of earlier runs that were connected, until this run is connected for the first time."""
        self._max_sent = self.end
        """Bytes below it may have been sent, over this connection or an earlier one, by this run or an earlier one."""
        self._memory = Ring(memory + _SLACK_BYTES, self.end)

    @property
    def base(self) -> int:
        """The place in the spool of the stream's offset 0. The places of bytes never change, their offsets may."""
        return self._base

    @property
    def earlier(self) -> list[EarlierStream]:
        """The streams before the present one, the latest first."""
        return [EarlierStream(id=name.stream_id, at=self._base - name.base) for name in self._earlier]

    def counted_end(self, base: int | None) -> int | None:
        """The end, counted by the stream whose offset 0 an earlier run had at the place `base`; by the present stream
        without `base`. None when the bytes of the earlier run are lost."""
        if not self._continues:
            return None
        return self.end if base is None else self._base + self.end - base

    @property
    def sent_end(self) -> int:
        """Bytes below it are those that this or an earlier run may have sent.

        An earlier run may have sent bytes that the disk did not take, and that are lost with it. Bytes that this run
        writes before it is connected get the same offsets.
        """
        return self.end if self._found_end is None else self._found_end

    @property
    def full(self) -> bool:
        """Whether the source should wait."""
        unspooled = self.end + self._base - self._spool.end
        return self.end - self.start >= self._capacity or unspooled >= self._memory_bytes

    def append(self, data: bytes) -> int:
        """Number and keep these bytes; return the new end."""
        if data:
            self._memory.append(data)
            self.end += len(data)
            self._write_spool()
        return self.end

    def write_again(self) -> bool:
        """Write to disk what is in memory alone, after an error; return whether that succeeds."""
        if self.failure is not None:
            self._write_spool()
        return self.failure is None

    def next_frame(self, limit: int) -> tuple[int, bytes] | None:
        """`(offset, data)` of the next bytes to send, at most `limit`; None when all are sent."""
        offset = self.sent
        if not self._note_connected() and self._unsent is not None and self._unsent < self._spool.end:
            # A later run must not take bytes for unsent that this run sends: they wait for room on the disk.
            limit = min(limit, self._unsent - self._base - offset)
        if offset == self.end or limit <= 0:
            return None
        try:
            data = self._memory.read(offset, limit)
        except BehindRing:
            data = self._spool.read(offset + self._base, limit)
        self.sent += len(data)
        self._max_sent = max(self._max_sent, self.sent)
        return offset, data

    def acknowledge(self, offset: int) -> None:
        """Drop the bytes below `offset`, which the receiver keeps. Raises AcknowledgedUnsent.

        An acknowledgement that is behind an earlier one changes nothing. One may be ahead of `sent`: the receiver has
        those bytes from an earlier connection.
        """
        if offset > self._max_sent:
            raise AcknowledgedUnsent(offset, self._max_sent)
        if offset > self.start:
            self.start = offset
            self.sent = max(self.sent, offset)
            self._spool.drop(offset + self._base)

    def resume(self, offset: int) -> None:
        """Send from `offset` on, where the receiver's bytes end. Raises CannotResume.

        This is no acknowledgement: the bytes below `offset` are kept.
        """
        if not self.start <= offset <= self.end:
            raise CannotResume(offset, self.start, self.end)
        self.sent = offset
        self._max_sent = max(self._max_sent, offset)
        self._found_end = None
        self._note_connected()

    def assign(self, stream_id: UUID, begins_at: int | None = None) -> None:
        """Assign the bytes to this stream.

        A new one begins with the byte at `begins_at` of the present one, for the receiver has those before; without
        `begins_at`, with the bytes that were not acknowledged.
        """
        if stream_id == self.stream_id:
            return
        if self.stream_id is not None:
            self._earlier = [_EarlierName(self.stream_id, self._base), *self._earlier][:MAX_EARLIER_STREAMS]
            shift = max(self.start, min(begins_at or 0, self.end))
            self._base += shift
            self.start = self.sent = self._max_sent = 0
            self.end -= shift
            self._memory = self._renumber_memory(shift)
            if self._spool.end < self._base:  # the disk was full
                self._spool.skip(self._base)
            self._spool.drop(self._base)
        self.stream_id = stream_id
        self._write_name()

    def close(self) -> None:
        """Close the files."""
        self._spool.close()

    def _write_name(self, unsent: int | None = None) -> None:
        """Write the stream's id. On a full disk the earlier one stays, and the server knows which streams followed."""
        assert self.stream_id is not None
        name = _StreamName(self._agent_id, self.stream_id, self._base, unsent, self._earlier)
        try:
            replace_file(self._name_file, [msgspec.json.encode(name)])
        except OSError as error:
            self._failed("The agent cannot write its stream's id", error)
        else:
            self._unsent = unsent

    def _note_connected(self) -> bool:
        """Write down that this run is connected, once it is; return False when that fails."""
        if self._found_end is None and self._unsent is not None:
            self._write_name()
        return self._found_end is not None or self._unsent is None

    def _note_unconnected(self) -> bool:
        """Write down, before the disk has a byte of this run, that it is not connected yet."""
        if self._found_end is not None and self._unsent is None and self.stream_id is not None:
            self._write_name(self._base + self._found_end)
        return self._unsent is not None or self.stream_id is None

    def _renumber_memory(self, shift: int) -> Ring:
        old = self._memory
        first = max(old.start, shift)
        memory = Ring(self._memory_bytes + _SLACK_BYTES, first - shift)
        while first < old.end:
            data = old.read(first, 1024 * 1024)
            memory.append(data)
            first += len(data)
        return memory

    def _write_spool(self) -> None:
        try:
            if not (self._note_connected() if self._found_end is None else self._note_unconnected()):
                return  # the disk is full
            while (place := self._spool.end - self._base) < self.end:
                self._spool.append(self._memory.read(place, self._memory_bytes))
        except OSError as error:
            self._failed("The agent cannot write its spool", error)
        else:
            self.failure = None

    def _failed(self, what: str, error: OSError) -> None:
        """Log the first of the errors in a row."""
        if self.failure is None:
            logger.warning("%s: %s", what, error, extra={"action": "spool_failed"})
        self.failure = f"{what}: {error}"
        self.on_failed(self.failure)

    def _load(self) -> bool:
        """Take over the stream of an earlier run, or begin one under an id of the agent's own and return False."""
        if self._take_over():
            return True
        self.stream_id = uuid4()
        self._write_name(self._base)
        if self._unsent is None:
            self.stream_id = None
        return False

    def _take_over(self) -> bool:
        try:
            name = msgspec.json.decode(self._name_file.read_bytes(), type=_StreamName)
        except FileNotFoundError:
            return False
        except msgspec.MsgspecError as error:
            logger.warning("The spool's stream id cannot be read: %s", error, extra={"action": "spool_failed"})
            return False
        if name.agent_id != self._agent_id or name.base > self._spool.end:
            self._spool.clear()  # the bytes of another agent that was enrolled in this folder
            self._base = self._spool.end
            return False
        self.stream_id = name.stream_id
        self._base = name.base
        self._unsent = name.unsent
        self._earlier = name.earlier[:MAX_EARLIER_STREAMS]
        return True
