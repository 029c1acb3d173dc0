"""Writes terminals' bytes to the archive, beside the path that they take to their viewers.

One loop an instance takes what waits, compresses it, and writes it, many streams in one transaction. It shares the
event loop with the terminals: with a thousand streams it works in small steps, and lets what has come go first.
While the database is away the backlogs fill to their bound and no further; nothing is acknowledged, so the agents keep
what is missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import psycopg
from psycopg_pool import PoolTimeout

from onsembl.protocol.backlog import Backlog, Batch, MemoryBudget
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.ids import StreamId
from onsembl.sql import archive
from onsembl.sql.archive import SizeChange
from onsembl.sql.archive_rows import ArchiveRow, pack
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (psycopg.Error, PoolTimeout)
BATCH_SECONDS = 0.25
"""How long a byte may wait for others to be written with it."""
BATCH_BYTES = 256 * 1024
"""With so many waiting, they are written at once."""
TRANSACTION_BYTES = 2 * 1024 * 1024
TRANSACTION_STREAMS = 200
STEP_STREAMS = 25
"""What is done for so many streams without a pause: about a millisecond's work."""
THREAD_BYTES = 16 * 1024
"""A run that is longer is compressed in a thread. For a shorter one the way there is longer than the work, and the
thread would hold the interpreter while bytes wait."""
STREAM_BYTES = 4 * 1024 * 1024
TOTAL_BYTES = 64 * 1024 * 1024
"""What may wait of one stream, and of all together."""
AWAY_SECONDS = 5.0
"""A write that takes longer says that the database is away."""
MAX_SIZES = 256
"""Changes of one terminal's size that may wait: the latest."""


class StreamLog:
    """One stream's way into the archive: its backlog and the sizes of its terminal.

    `on_archived` is called, while there is one, after each write to the archive that may concern the stream. `refused`
    says that the archive has no place for it any more: nothing more of it is taken.
    """

    def __init__(self, archiver: Archiver, stream_id: StreamId, start: int) -> None:
        self._archiver = archiver
        self.stream_id = stream_id
        self.sizes: list[SizeChange] = []
        self.on_archived: Callable[[], None] | None = None
        self.refused = False
        self.backlog = Backlog(start, archiver.stream_bytes, archiver.budget, self._note)

    def resized(self, offset: int, columns: int, rows: int) -> None:
        """From `offset` on the terminal has this size."""
        del self.sizes[: -MAX_SIZES + 1]
        self.sizes.append(SizeChange(self.stream_id, offset, datetime.now(UTC), columns, rows))
        self._note()

    def _note(self) -> None:
        self._archiver.note(self)


class Archiver:
    """The loop, and what waits for it."""

    def __init__(self, pool: Pool, *, stream_bytes: int = STREAM_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self._pool = pool
        self.stream_bytes = stream_bytes
        self.budget = MemoryBudget(total_bytes)
        self.logs: set[StreamLog] = set()
        """Those of terminals in use."""
        self._waiting: dict[StreamLog, None] = {}
        self._something = asyncio.Event()
        self._tried = asyncio.Event()
        self._draining = asyncio.Event()
        self._away = False

    @property
    def away(self) -> bool:
        """Whether the database takes nothing at present."""
        return self._away

    def open(self, stream_id: StreamId, start: int) -> StreamLog:
        """A stream's way into the archive, which has it up to `start`."""
        log = StreamLog(self, stream_id, start)
        self.logs.add(log)
        return log

    def close(self, log: StreamLog) -> None:
        """No more bytes come; those that wait are written."""
        self.logs.discard(log)

    def note(self, log: StreamLog) -> None:
        """Something of this stream waits."""
        self._waiting[log] = None
        self._something.set()

    async def room_for(self, backlog: Backlog) -> None:
        """Wait while the backlog is full and is being worked off: a flood goes as fast as it is written down.

        With the database away nobody waits: viewers see what comes, and what was missed is asked for later.
        """
        while backlog.full and not self._away:
            tried = self._tried
            try:
                async with asyncio.timeout(AWAY_SECONDS):
                    await tried.wait()
            except TimeoutError:
                self._is_away("a write takes too long")

    async def run(self) -> None:
        """Write until `drain` has emptied it, or until cancelled."""
        backoff = Backoff(cap=2.0)
        while True:
            if not self._waiting:
                if self._draining.is_set():
                    return
                await self._first()
                continue
            if self.budget.used < BATCH_BYTES and not self._draining.is_set():
                await self._more()
            try:
                await self._write_round()
            except DATABASE_ERRORS as error:
                self._is_away(str(error))
                self._wake_the_full()
                await asyncio.sleep(backoff.next_delay())
            else:
                backoff.reset()

    async def drain(self, running: asyncio.Task[None], longest: float) -> None:
        """Write what is left, within `longest` seconds, and end the loop; what stays unwritten the agents have."""
        self._draining.set()
        self._something.set()
        await asyncio.wait({running}, timeout=longest)
        await cancel_until_done([running])

    async def _first(self) -> None:
        self._something.clear()
        await self._something.wait()

    async def _more(self) -> None:
        """Let a batch gather, until it is large or its first byte has waited long enough."""
        until = time.monotonic() + BATCH_SECONDS
        while self.budget.used < BATCH_BYTES and (left := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, BATCH_SECONDS / 10)):
                    await self._draining.wait()
                    return

    async def _write_round(self) -> None:
        """Of all streams that have something now, in turn."""
        due = list(self._waiting)
        for first in range(0, len(due), TRANSACTION_STREAMS):
            some = due[first : first + TRANSACTION_STREAMS]
            await self._write_some(some)
            if self._away:
                logger.info("The archive is written again", extra={"action": "archive_back"})
            self._away = False
            self._wake_the_full()
            await _tell(some)
        await _tell([log for log in self.logs if log.backlog.missed])  # there may be room for it now

    async def _write_some(self, logs: list[StreamLog]) -> None:
        """One transaction: of as many of the streams as fit."""
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
        """What was taken of this stream is written; its backlog may have moved on meanwhile."""
        del self._waiting[log]
        backlog = log.backlog
        if written is not None:
            if archived is None or archived < written.start:
                # The stream was removed, or the database was put back to an earlier day: there is no place for these.
                logger.warning(
                    "Bytes of a stream have no place in the archive",
                    extra={"action": "archive_refused", "stream_id": str(log.stream_id), "bytes": backlog.size},
                )
                log.refused = True
                backlog.restart(backlog.start)
            else:
                backlog.mark_archived(archived)
        if backlog.size or log.sizes:
            self._waiting[log] = None  # behind the others

    def _is_away(self, why: str) -> None:
        if not self._away:
            logger.warning("The archive cannot be written: %s", why, extra={"action": "archive_away"})
        self._away = True

    def _wake_the_full(self) -> None:
        self._tried.set()
        self._tried = asyncio.Event()


async def _tell(logs: list[StreamLog]) -> None:
    """The archive has something of these."""
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
