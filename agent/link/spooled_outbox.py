"""The terminal's bytes until the server has them: on disk before they leave, so that they outlive this process.

What was sent is spooled before, so the death of the agent leaves nothing with the server that the next start does not
have: its stream goes on, byte for byte. The newest bytes are in memory too. Where the disk takes no more, memory alone
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
"""What a program that has ended may still have written, which is taken though there is no room."""
SPOOL_BYTES = 64 * 1024 * 1024
"""What may wait for the server before the program has to."""
_NAME = "stream.json"


class _StreamName(msgspec.Struct, frozen=True):
    """Which stream the spool's bytes are of: the one at place `base` is its offset 0."""

    agent_id: UUID
    stream_id: UUID
    base: int


class SpooledOutbox:
    """As `onsembl.protocol.stream.Outbox`, and `stream_id`, the stream that the bytes are of, None before the first.

    Raises OSError where the folder cannot be used at the start.
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
        self._ailing = False
        self.stream_id: UUID | None = None
        self._base = self._spool.start
        """The spool's place of the stream's offset 0."""
        self._recall()
        self.start = max(0, self._spool.start - self._base)
        self.sent = self.start
        self.end = self._spool.end - self._base
        self._reached = self.end
        """What was sent once, over whatever link, is below; of an earlier start's, all may have been."""
        self._memory = Ring(memory + _SLACK_BYTES, self.end)

    @property
    def full(self) -> bool:
        """Whether the source should wait."""
        unspooled = self.end + self._base - self._spool.end
        return self.end - self.start >= self._capacity or unspooled >= self._memory_bytes

    @property
    def ends_line(self) -> bool:
        """Whether the last byte ends a line; so does none at all."""
        return self._spool.read(self._spool.end - 1, 1) == b"\n" if self._spool.start < self._spool.end else True

    def append(self, data: bytes) -> int:
        """Number and keep these bytes; the new end."""
        if data:
            self._memory.append(data)
            self.end += len(data)
            self._write_through()
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
        self._reached = max(self._reached, self.sent)
        return offset, data

    def acknowledge(self, offset: int) -> None:
        """The receiver keeps all bytes below `offset`. One that is behind changes nothing. Raises AcknowledgedUnsent.

        It may be ahead of what was sent over this link: the receiver has it from the one before.
        """
        if offset > self._reached:
            raise AcknowledgedUnsent(offset, self._reached)
        if offset > self.start:
            self.start = offset
            self.sent = max(self.sent, offset)
            self._spool.forget(offset + self._base)

    def resume(self, offset: int) -> None:
        """Send from `offset` on, where the receiver's bytes end. Raises CannotResume.

        It has not said that it keeps them: that is what an acknowledgement says.
        """
        if not self.start <= offset <= self.end:
            raise CannotResume(offset, self.start, self.end)
        self.sent = offset
        self._reached = max(self._reached, offset)

    def began(self, stream_id: UUID) -> None:
        """The bytes are of this stream. Of another than before: what was not acknowledged is the beginning of it."""
        if stream_id == self.stream_id:
            return
        if self.stream_id is not None:
            shift = self.start
            self._base += shift
            self.start = self.sent = self._reached = 0
            self.end -= shift
            self._memory = self._renumbered(shift)
        self.stream_id = stream_id
        name = _StreamName(self._agent_id, stream_id, self._base)
        try:
            replace_file(self._name_file, [msgspec.json.encode(name)])
        except OSError as error:
            # After a restart the bytes begin a stream of their own.
            logger.warning("The spool's stream cannot be noted: %s", error, extra={"action": "spool_failed"})

    def close(self) -> None:
        """Let go of the files."""
        self._spool.close()

    def _renumbered(self, shift: int) -> Ring:
        old = self._memory
        first = max(old.start, shift)
        memory = Ring(self._memory_bytes + _SLACK_BYTES, first - shift)
        while first < old.end:
            data = old.read(first, 1024 * 1024)
            memory.append(data)
            first += len(data)
        return memory

    def _write_through(self) -> None:
        try:
            while (place := self._spool.end - self._base) < self.end:
                self._spool.append(self._memory.read(place, self._memory_bytes))
        except OSError as error:
            if not self._ailing:
                logger.warning("The spool cannot be written: %s", error, extra={"action": "spool_failed"})
            self._ailing = True
        else:
            self._ailing = False

    def _recall(self) -> None:
        """What an earlier start left."""
        try:
            name = msgspec.json.decode(self._name_file.read_bytes(), type=_StreamName)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as error:
            logger.warning("The spool's stream is not known: %s", error, extra={"action": "spool_failed"})
            return
        if name.agent_id != self._agent_id or name.base > self._spool.end:
            self._spool.clear()  # of another agent that was enrolled in this folder
            self._base = self._spool.end
            return
        self.stream_id = name.stream_id
        self._base = name.base
