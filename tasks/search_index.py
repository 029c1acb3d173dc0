"""Keeps the search index up to date with the archive, in the background of a worker.

A worker may share its process with the API, so the indexer works in steps of a few KiB and yields between them. The
output of ten agents is indexed within about five seconds. With many more agents, or after a flood, it takes longer: a
round costs more per stream than per byte, so rounds over many streams are further apart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing

import psycopg
from psycopg_pool import PoolTimeout

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.sql import archive, search
from onsembl.sql.archive_rows import Piece
from onsembl.sql.database import Pool
from onsembl.tasks.search_lines import SearchLines

logger = logging.getLogger(__name__)

INDEX_SECONDS = 5.0
PAUSE_AFTER_ROUND = 9.0
"""The pause after a round, as a multiple of the round's duration."""
ALL_STREAMS_EVERY = 12
"""The number of rounds after which the streams that are no longer in use are indexed, too."""
ROUND_BYTES = 1024 * 1024
"""The most bytes of one stream in one round."""
STEP_BYTES = 2 * 1024
"""The bytes indexed without a pause: little more than a tenth of a millisecond of work, so the indexer takes a
twentieth of a processor and delays no terminal."""
PAUSE_SECONDS = 0.0025


async def index_for_ever(pool: Pool) -> None:
    """Index new output until cancelled. Any number of processes may run this; one at a time indexes each stream."""
    turn = 0
    while True:
        began = time.monotonic()
        try:
            more = await index_round(pool, all_streams=turn % ALL_STREAMS_EVERY == 0)
        except (psycopg.Error, PoolTimeout) as error:
            logger.warning("Output could not be indexed: %s", error, extra={"action": "index_failed"})
            more = False
        turn += 1
        took = time.monotonic() - began
        await asyncio.sleep(PAUSE_SECONDS if more else max(INDEX_SECONDS, PAUSE_AFTER_ROUND * took))


async def index_round(pool: Pool, *, all_streams: bool) -> bool:
    """Index every stream whose archive is ahead of its index; return whether any stream has more."""
    async with pool.connection() as conn:
        waiting = await search.behind(conn, all_streams=all_streams)
    more = False
    for row in waiting:
        more |= await _index(pool, AgentId(row["agent_id"]), StreamId(row["stream_id"]))
    return more


async def _index(pool: Pool, agent_id: AgentId, stream_id: StreamId) -> bool:
    async with pool.connection() as conn:
        before = await search.take(conn, stream_id)
        if before is None:
            return False
        lines = SearchLines(before)
        ended = await archive.end(conn, stream_id)
        upto = min(ended, max(before.seen, before.indexed) + ROUND_BYTES)
        async with aclosing(archive.read(conn, stream_id, before.indexed, upto)) as pieces:
            unpaused = 0
            async for piece in pieces:
                for first in range(0, len(piece.data), STEP_BYTES):
                    step = piece.data[first : first + STEP_BYTES]
                    lines.feed(Piece(piece.at, piece.start + first, step))
                    unpaused += len(step)
                    if unpaused >= STEP_BYTES:
                        unpaused = 0
                        await asyncio.sleep(PAUSE_SECONDS)
        after, blocks = lines.finish()
        # Bytes that retention has removed count as indexed.
        after = search.Progress(after.indexed, max(after.seen, upto), after.open_at, after.carry)
        await search.put(conn, agent_id, stream_id, before, after, blocks)
        return upto < ended
