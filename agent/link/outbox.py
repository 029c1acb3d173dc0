"""The terminal's bytes until the server keeps them: on disk before they are sent, so that they survive this process.

Bytes are spooled before they are sent. So when the agent dies, its next start has every byte that the server has, and
goes on with the same stream, byte for byte. The newest bytes are in memory too. While the disk is full, memory alone
keeps them, up to its bound.
"""

from __future__ import annotations

import logging
from pathlib import Path
from uuid import UUID

import msgspec

from onsembl.agent.link.durable import replace_file
from onsembl.agent.link.spool import SEGMENT_BYTES, Spool
from onsembl.protocol.ring import BehindRing, Ring
from onsembl.protocol.stream import AcknowledgedUnsent, CannotResume

logger = logging.getLogger(__name__)

MEMORY_BYTES = 4 * 1024 * 1024
_SLACK_BYTES = 1024 * 1024
"""Room for the last output of a program that has ended, which is taken even by a full outbox."""
SPOOL_BYTES = 64 * 1024 * 1024
"""How much output may wait for the server before programs have to wait."""
_NAME = "stream.json"


class _StreamName(msgspec.Struct, frozen=True):
    """The stream to which the spool's bytes belong; the byte at place `base` of the spool has offset 0 in it."""

    agent_id: UUID
    stream_id: UUID
    base: int


class Outbox:
    """The sender of a stream: numbers bytes, sends them in order, and keeps them until they are acknowledged.

    The caller keeps the bound: it stops reading its source while the outbox is `full`, for `append` takes all bytes.
    The constructor raises OSError when the folder cannot be used.
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
        self._failing = False
        self.stream_id: UUID | None = None
        """The stream to which the bytes belong; None before the first."""
        self._base = self._spool.start
        """The place in the spool of the stream's offset 0."""
        self._load()
        self.start = max(0, self._spool.start - self._base)
        """The oldest byte that is kept."""
        self.sent = self.start
        """The next byte to send."""
        self.end = self._spool.end - self._base
        """The offset of the next byte that is appended."""
        self._max_sent = self.end
        """Bytes below it may have been sent, over this connection or an earlier one, by this run or an earlier one."""
        self._memory = Ring(memory + _SLACK_BYTES, self.end)

    @property
    def full(self) -> bool:
        """Whether the source should wait."""
        unspooled = self.end + self._base - self._spool.end
        return self.end - self.start >= self._capacity or unspooled >= self._memory_bytes

    @property
    def ends_line(self) -> bool:
        """Whether the last byte ends a line, or there is none."""
        return self._spool.read(self._spool.end - 1, 1) == b"\n" if self._spool.start < self._spool.end else True

    def append(self, data: bytes) -> int:
        """Number and keep these bytes; return the new end."""
        if data:
            self._memory.append(data)
            self.end += len(data)
            self._write_spool()
        return self.end

    def next_frame(self, limit: int) -> tuple[int, bytes] | None:
        """`(offset, data)` of the next bytes to send, at most `limit`; None when all are sent."""
        offset = self.sent
        if offset == self.end:
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

    def assign(self, stream_id: UUID) -> None:
        """Assign the bytes to this stream. If it is a new one, it begins with the bytes that were not acknowledged."""
        if stream_id == self.stream_id:
            return
        if self.stream_id is not None:
            shift = self.start
            self._base += shift
            self.start = self.sent = self._max_sent = 0
            self.end -= shift
            self._memory = self._renumber_memory(shift)
        self.stream_id = stream_id
        name = _StreamName(self._agent_id, stream_id, self._base)
        try:
            replace_file(self._name_file, [msgspec.json.encode(name)])
        except OSError as error:
            # After a restart, the bytes will begin a new stream.
            logger.warning("The spool's stream id cannot be written: %s", error, extra={"action": "spool_failed"})

    def close(self) -> None:
        """Close the files."""
        self._spool.close()

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
            while (place := self._spool.end - self._base) < self.end:
                self._spool.append(self._memory.read(place, self._memory_bytes))
        except OSError as error:
            if not self._failing:
                logger.warning("The spool cannot be written: %s", error, extra={"action": "spool_failed"})
            self._failing = True
        else:
            self._failing = False

    def _load(self) -> None:
        """Take over the stream of an earlier run."""
        try:
            name = msgspec.json.decode(self._name_file.read_bytes(), type=_StreamName)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as error:
            logger.warning("The spool's stream id cannot be read: %s", error, extra={"action": "spool_failed"})
            return
        if name.agent_id != self._agent_id or name.base > self._spool.end:
            self._spool.clear()  # the bytes of another agent that was enrolled in this folder
            self._base = self._spool.end
            return
        self.stream_id = name.stream_id
        self._base = name.base
