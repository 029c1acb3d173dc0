"""Keeps the search's text up with the archive, in the background of a worker.

A worker may share its process with the API, so this takes little at a time: a few KiB, then whoever waits has their
turn. What ten agents put out is found within some five seconds. With many more, or behind a flood, it takes longer: a
stream costs more by the round than by the byte, so the rounds of many streams are further apart.
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
"""Times as long as a round took, this waits for the next."""
ALL_STREAMS_EVERY = 12
"""Rounds after which the streams that are no longer in use are looked at, too."""
ROUND_BYTES = 1024 * 1024
"""Of one stream in one round."""
STEP_BYTES = 2 * 1024
"""What is read without a pause: little more than a tenth of a millisecond's work, so that this takes a twentieth of a
processor and holds up no terminal."""
PAUSE_SECONDS = 0.0025


async def index_for_ever(pool: Pool) -> None:
    """Index what comes until cancelled. Any number of processes may: each stream is one's at a time."""
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
    """Go on with every stream that has more; whether any was left with some."""
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
        # What was looked at counts even where retention has left nothing to see.
        after = search.Progress(after.indexed, max(after.seen, upto), after.open_at, after.carry)
        await search.put(conn, agent_id, stream_id, before, after, blocks)
        return upto < ended
