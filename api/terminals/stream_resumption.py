"""Resumes a terminal from the archive, after its agent was offline or this process was restarted."""

from __future__ import annotations

import logging
from contextlib import aclosing

from onsembl.api.terminals.hub import Hub
from onsembl.api.terminals.sessions import ConnectionRejected
from onsembl.api.terminals.terminal import Terminal
from onsembl.api.terminals.viewed_terminal import Size, ViewedTerminal
from onsembl.protocol.byte_times import ByteTimes, Marks
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, Epoch, StreamId
from onsembl.protocol.resume import HeldBytes
from onsembl.sql import archive
from onsembl.sql.database import DATABASE_ERRORS, Pool

logger = logging.getLogger(__name__)

CONNECTION_SECONDS = 2.0
"""How long a read of the archive waits for a connection."""
DROPPED = "Bytes that waited for the archive were dropped: connect again, and send them again."
READ_BYTES = 1024 * 1024
"""The most bytes of one read. No connection is held while a viewer takes the bytes."""


def held(terminal: Terminal | None) -> HeldBytes | None:
    """The part of the terminal's stream that this process has in memory."""
    if terminal is None or terminal.stream_id is None:
        return None
    backlog = terminal.log.backlog
    return HeldBytes(terminal.stream_id, backlog.start, backlog.end, terminal.inbox.end)


async def resume(
    hub: Hub,
    agent_id: AgentId,
    epoch: Epoch,
    stream_id: StreamId,
    offset: int,
    archived: int,
    promised: int,
    size: Size,
) -> Terminal:
    """The terminal of an agent that has connected. The agent sends its stream from `offset` on, and has bytes up to
    `promised`. `archived` is the end of the stream's archive.

    Raises ConnectionRejected when the bytes from there to `offset` no longer wait in memory: the agent must send them.
    """
    kept = held(hub.terminals.get(agent_id))
    if offset > archived and (kept is None or kept.stream_id != stream_id or not kept.start <= offset == kept.end):
        raise ConnectionRejected(CloseCode.STREAM_REJECTED, DROPPED)
    terminal = hub.terminal(agent_id, stream_id, offset, size, epoch)
    if terminal.stream_id != stream_id:
        terminal.begin(stream_id, offset, size)
    elif terminal.inbox.end < offset:
        # The bytes between went to the archive by way of another process.
        await _fill(hub, terminal, offset)
        if terminal.inbox.end < offset:
            terminal.begin(stream_id, offset, size)
    backlog = terminal.log.backlog
    if backlog.end != offset:
        backlog.restart(offset)
    terminal.log.rejected = False
    terminal.promised = promised
    terminal.resize(size)
    return terminal


async def _fill(hub: Hub, terminal: Terminal, upto: int) -> None:
    """Fill the ring from the archive up to `upto` for attached viewers, if the ring can hold the bytes."""
    if not terminal.viewers or upto - terminal.inbox.end > hub.ring_bytes:
        return
    while terminal.inbox.end < upto:
        data, times = await read(hub.pool, terminal, terminal.inbox.end, upto)
        if not data:
            return
        start = terminal.inbox.end
        terminal.fill(data, times.marks(start, start + len(data)), times.exact_from)


async def refill(pool: Pool, terminal: Terminal) -> None:
    """Fill the ring with the bytes from before this process began with the stream, if the archive can be read."""
    try:
        await _refill(pool, terminal)
    except DATABASE_ERRORS as error:
        logger.warning("The archive cannot be read: %s", error, extra={"action": "archive_unread"})


async def _refill(pool: Pool, terminal: Terminal) -> None:
    async with terminal.refilling:
        ring = terminal.ring
        if terminal.refilled or terminal.stream_id is None:
            return
        start = ring.start
        async with pool.connection(CONNECTION_SECONDS) as conn:
            kept = await archive.bounds(conn, terminal.stream_id)
        # Retention may have removed the beginning.
        first = max(kept[0] if kept is not None else start, start - ring.room)
        parts: list[bytes] = []
        marks: Marks = []
        exact_from = 0
        while first < start:
            data, times = await read(pool, terminal, first, start)
            if not data:
                return
            parts.append(data)
            marks += times.marks(first, first + len(data))
            exact_from = max(exact_from, times.exact_from)
            first += len(data)
        if terminal.ring is ring and ring.start == start:
            earlier = b"".join(parts)
            ring.prepend(earlier)
            terminal.modes.prepend(earlier, start - len(earlier))
            terminal.times.prepend(marks, exact_from)
            terminal.refilled = True


async def read(pool: Pool, terminal: ViewedTerminal, start: int, upto: int) -> tuple[bytes, ByteTimes]:
    """Bytes of the terminal from `start` on, out of the archive or the backlog, and when they were received; empty when
    neither has them.

    Raises psycopg.Error or PoolTimeout.
    """
    stream_id = terminal.stream_id  # the agent may begin another one meanwhile
    assert stream_id is not None
    upto = min(upto, start + READ_BYTES)
    if waiting := terminal.unarchived(start, upto - start):
        return waiting, terminal.times
    parts: list[bytes] = []
    times = ByteTimes()
    place = start
    async with (
        pool.connection(CONNECTION_SECONDS) as conn,
        aclosing(archive.read(conn, stream_id, start, upto)) as pieces,
    ):
        async for piece in pieces:
            if piece.start != place:
                break
            parts.append(piece.data)
            times.note(place, piece.at.timestamp())
            place += len(piece.data)
    return b"".join(parts), times
