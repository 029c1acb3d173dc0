"""Writes terminals' bytes to the archive, beside their path to the viewers.

Each instance has one loop. It compresses the bytes that wait, and writes those of many streams in one transaction. It
shares the event loop with the terminals, so it works in small steps and yields between them. While the database is
unavailable the backlogs fill up to their limit. Bytes are acknowledged only once they are archived, so the agents keep
the bytes that are missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from onsembl.protocol.backlog import Backlog, Batch, MemoryBudget
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.ids import StreamId
from onsembl.sql import archive
from onsembl.sql.archive import SizeChange
from onsembl.sql.archive_rows import ArchiveRow, pack
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import DATABASE_ERRORS, LASTING_ERRORS, Pool

logger = logging.getLogger(__name__)

BATCH_SECONDS = 0.25
"""How long the first byte of a batch waits for more bytes, in seconds."""
BATCH_BYTES = 256 * 1024
"""A batch of this size is written at once."""
TRANSACTION_BYTES = 2 * 1024 * 1024
TRANSACTION_STREAMS = 200
STEP_STREAMS = 25
"""The loop yields after this many streams, which take about a millisecond."""
THREAD_BYTES = 16 * 1024
"""Longer runs are compressed in a thread. For a shorter run the switch takes longer than the work, and the thread would
hold the interpreter while bytes wait."""
STREAM_BYTES = 4 * 1024 * 1024
TOTAL_BYTES = 64 * 1024 * 1024
"""The limits of one stream's backlog, and of all backlogs together."""
SLOW_WRITE_SECONDS = 5.0
"""A write that takes longer, in seconds, shows that the database is unavailable."""
MAX_SIZES = 256
"""How many changes of one terminal's size may wait; older ones are dropped."""


class StreamLog:
    """One stream's way into the archive: its backlog, and the changes of its terminal's size.

    `on_archived`, if set, is called after each write to the archive that may concern the stream. `rejected` is true
    once the archive no longer has a place for the stream; then it accepts no more bytes.
    """

    def __init__(self, archiver: Archiver, stream_id: StreamId, start: int) -> None:
        self._archiver = archiver
        self.stream_id = stream_id
        self.sizes: list[SizeChange] = []
        self.on_archived: Callable[[], None] | None = None
        self.rejected = False
        self.backlog = Backlog(start, archiver.stream_bytes, archiver.budget, self._mark_waiting)

    def resized(self, offset: int, columns: int, rows: int) -> None:
        """Record the terminal's size from `offset` on."""
        del self.sizes[: -MAX_SIZES + 1]
        self.sizes.append(SizeChange(self.stream_id, offset, datetime.now(UTC), columns, rows))
        self._mark_waiting()

    def _mark_waiting(self) -> None:
        self._archiver.mark_waiting(self)


class Archiver:
    """The loop that writes, and the streams that wait for it."""

    def __init__(self, pool: Pool, *, stream_bytes: int = STREAM_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self._pool = pool
        self.stream_bytes = stream_bytes
        self.budget = MemoryBudget(total_bytes)
        self.logs: set[StreamLog] = set()
        """The logs of the terminals in memory."""
        self._waiting: dict[StreamLog, None] = {}
        self._wake_up = asyncio.Event()
        self._write_ended = asyncio.Event()
        self._draining = asyncio.Event()
        self._unavailable = False

    @property
    def unavailable(self) -> bool:
        """Whether the archive cannot be written at present."""
        return self._unavailable

    def open(self, stream_id: StreamId, start: int) -> StreamLog:
        """Open the log of a stream, which the archive has up to `start`."""
        log = StreamLog(self, stream_id, start)
        self.logs.add(log)
        return log

    def close(self, log: StreamLog) -> None:
        """Close the log: no more bytes come. The bytes that wait are still written."""
        self.logs.discard(log)

    def mark_waiting(self, log: StreamLog) -> None:
        """Have the loop write this stream: it has bytes or sizes that wait."""
        self._waiting[log] = None
        self._wake_up.set()

    async def wait_for_room(self, backlog: Backlog) -> None:
        """Wait while the backlog is full, so that a flood of bytes is slowed down to the speed of the archive.

        While the database is unavailable this does not wait: the viewers get the bytes, and the agent is asked later to
        send them again.
        """
        while backlog.full and not self._unavailable:
            ended = self._write_ended
            try:
                async with asyncio.timeout(SLOW_WRITE_SECONDS):
                    await ended.wait()
            except TimeoutError:
                self._mark_unavailable("a write takes too long")

    async def run(self) -> None:
        """Write until `drain` is called and everything is written, or until cancelled."""
        backoff = Backoff(cap=2.0)
        while True:
            if not self._waiting:
                if self._draining.is_set():
                    return
                await self._wait_for_bytes()
                continue
            if self.budget.used < BATCH_BYTES and not self._draining.is_set():
                await self._gather_batch()
            try:
                await self._write_round()
            except DATABASE_ERRORS as error:
                self._mark_unavailable(str(error))
                self._wake_waiters()
                await asyncio.sleep(backoff.next_delay())
            else:
                backoff.reset()

    async def drain(self, running: asyncio.Task[None], longest: float) -> None:
        """Write the bytes that wait, within `longest` seconds, and end the loop. The agents keep the rest."""
        self._draining.set()
        self._wake_up.set()
        await asyncio.wait({running}, timeout=longest)
        await cancel_until_done([running])

    async def _wait_for_bytes(self) -> None:
        self._wake_up.clear()
        await self._wake_up.wait()

    async def _gather_batch(self) -> None:
        """Wait until the batch is large, or its first byte has waited for `BATCH_SECONDS`."""
        until = time.monotonic() + BATCH_SECONDS
        while self.budget.used < BATCH_BYTES and (left := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, BATCH_SECONDS / 10)):
                    await self._draining.wait()
                    return

    async def _write_round(self) -> None:
        """Write every stream that waits now, in turn."""
        due = list(self._waiting)
        for first in range(0, len(due), TRANSACTION_STREAMS):
            some = due[first : first + TRANSACTION_STREAMS]
            try:
                await self._write_some(some)
            except Exception as error:
                if isinstance(error, DATABASE_ERRORS) and not isinstance(error, LASTING_ERRORS):
                    raise
                await self._write_each(some)
            if self._unavailable:
                logger.info("The archive can be written again", extra={"action": "archive_back"})
            self._unavailable = False
            self._wake_waiters()
            await _notify(some)
        await _notify([log for log in self.logs if log.backlog.missed])  # they may have room now

    async def _write_each(self, logs: list[StreamLog]) -> None:
        """Write each stream by itself, for one of them cannot be written. That one is rejected; the others go on."""
        for log in logs:
            try:
                if log in self._waiting:
                    await self._write_some([log])
            except Exception as error:
                if isinstance(error, DATABASE_ERRORS) and not isinstance(error, LASTING_ERRORS):
                    raise
                logger.exception(
                    "A stream cannot be archived",
                    extra={"action": "archive_failed", "stream_id": str(log.stream_id), "bytes": log.backlog.size},
                )
                log.sizes = []
                del self._waiting[log]
                log.rejected = True
                log.backlog.restart(log.backlog.start)

    async def _write_some(self, logs: list[StreamLog]) -> None:
        """Write as many of the streams as fit into one transaction."""
        taken: dict[StreamLog, Batch | None] = {}
        sizes: dict[StreamLog, list[SizeChange]] = {}
        room = TRANSACTION_BYTES
        for log in logs:
            if room <= 0:
                break
            if log.sizes:
                sizes[log] = log.sizes
                log.sizes = []
            taken[log] = waiting = log.backlog.next_batch(min(room, TRANSACTION_BYTES // 2))
            if waiting is not None:
                room -= sum(map(len, waiting.chunks))
        try:
            runs = [(log.stream_id, waiting) for log, waiting in taken.items() if waiting is not None]
            rows = await _pack(runs)
            ends: dict[StreamId, int] = {}
            async with self._pool.connection() as conn:
                if rows:
                    ends = await archive.write(conn, rows)
                if sizes:
                    await archive.write_sizes(conn, [change for changes in sizes.values() for change in changes])
        except BaseException:
            for log, changes in sizes.items():
                log.sizes[:0] = changes
            raise
        for log, waiting in taken.items():
            self._settle(log, waiting, ends.get(log.stream_id))

    def _settle(self, log: StreamLog, written: Batch | None, archived: int | None) -> None:
        """Remove the written bytes from the stream's backlog, which may have grown meanwhile."""
        del self._waiting[log]
        backlog = log.backlog
        if written is not None:
            if archived is None or archived < written.start:
                # The stream was removed, or the database was restored to an earlier day.
                logger.warning(
                    "The archive has no place for the bytes of a stream",
                    extra={"action": "archive_refused", "stream_id": str(log.stream_id), "bytes": backlog.size},
                )
                log.rejected = True
                backlog.restart(backlog.start)
            else:
                backlog.mark_archived(archived)
        if backlog.size or log.sizes:
            self._waiting[log] = None  # at the end of the queue

    def _mark_unavailable(self, reason: str) -> None:
        if not self._unavailable:
            logger.warning("The archive cannot be written: %s", reason, extra={"action": "archive_away"})
        self._unavailable = True

    def _wake_waiters(self) -> None:
        self._write_ended.set()
        self._write_ended = asyncio.Event()


async def _notify(logs: list[StreamLog]) -> None:
    """Call `on_archived` of these streams."""
    for number, log in enumerate(logs, 1):
        if log.on_archived is not None:
            log.on_archived()
        if number % STEP_STREAMS == 0:
            await asyncio.sleep(0)


async def _pack(runs: list[tuple[StreamId, Batch]]) -> list[ArchiveRow]:
    rows: list[ArchiveRow] = []
    long: list[tuple[StreamId, Batch]] = []
    for number, (stream_id, run) in enumerate(runs, 1):
        if sum(map(len, run.chunks)) > THREAD_BYTES:
            long.append((stream_id, run))
        else:
            rows += _rows(stream_id, run)
        if number % STEP_STREAMS == 0:
            await asyncio.sleep(0)
    if long:
        rows += await asyncio.to_thread(lambda: [row for stream_id, run in long for row in _rows(stream_id, run)])
    return rows


def _rows(stream_id: StreamId, run: Batch) -> list[ArchiveRow]:
    return pack(stream_id, run.start, run.chunks, run.times)
