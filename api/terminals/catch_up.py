"""Brings a viewer that is behind a terminal's ring up to it, with bytes from the archive."""

from __future__ import annotations

import asyncio

from onsembl.api.terminals.sessions import ConnectionRejected
from onsembl.api.terminals.stream_resumption import CONNECTION_SECONDS, read
from onsembl.api.terminals.viewed_terminal import ViewedTerminal
from onsembl.api.terminals.viewer import CATCH_UP_BYTES, Viewer
from onsembl.protocol.byte_times import ByteTimes
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import StreamId
from onsembl.sql import archive
from onsembl.sql.database import Pool

NOT_YET_ARCHIVED = "The bytes from this offset on are not archived yet; reconnect."
LOOK_AGAIN_SECONDS = 0.25
LOOKS = 20
"""How often the archive is looked at for bytes that another instance writes, before the viewer has to reconnect."""


async def place(
    pool: Pool, terminal: ViewedTerminal, stream_id: StreamId | None, offset: int | None, *, timed: bool
) -> Viewer:
    """The viewer, which continues after its last byte if the ring or the archive has the next bytes. `timed`: it is
    told the times of the bytes.

    Raises ConnectionRejected as `read_back` does, psycopg.Error or PoolTimeout.
    """
    start = terminal.ring.start
    archived = False
    if stream_id == terminal.stream_id and offset is not None and start - CATCH_UP_BYTES <= offset < start:
        archived = bool((await read_back(pool, terminal, offset, offset + 1))[0])
    archived = archived and terminal.stream_id == stream_id
    return Viewer(terminal, stream_id, offset, archived=archived, timed=timed)


async def read_back(pool: Pool, terminal: ViewedTerminal, start: int, upto: int) -> tuple[bytes, ByteTimes]:
    """Read the bytes before the ring, and their times, from the archive; empty when they are lost. Bytes that another
    instance has yet to archive are waited for.

    Raises ConnectionRejected when that takes too long, or when the agent will send the bytes again, because the archive
    was full at their arrival; psycopg.Error or PoolTimeout.
    """
    stream_id = terminal.stream_id
    data, times = await read(pool, terminal, start, upto)
    if not data and stream_id is not None and terminal.archived_elsewhere:
        await _until_archived(pool, stream_id, start)
        if terminal.stream_id == stream_id:
            data, times = await read(pool, terminal, start, upto)
    if not data and terminal.comes_again(start):
        raise ConnectionRejected(CloseCode.INTERNAL_ERROR, NOT_YET_ARCHIVED)
    return data, times


async def _until_archived(pool: Pool, stream_id: StreamId, start: int) -> None:
    """Wait until the archive is past the byte at `start`, whether it has that byte or not. Raises as `read_back`."""
    for _ in range(LOOKS):
        async with pool.connection(CONNECTION_SECONDS) as conn:
            if await archive.end(conn, stream_id) > start:
                return
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    raise ConnectionRejected(CloseCode.INTERNAL_ERROR, NOT_YET_ARCHIVED)
