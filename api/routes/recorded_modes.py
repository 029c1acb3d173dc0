"""The terminal modes in force at a place of a recording, for a player that begins to draw there."""

from __future__ import annotations

from contextlib import aclosing

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.problems import found
from onsembl.api.routes.recordings_models import ModesQuery, TerminalModesAnswer
from onsembl.protocol.ids import StreamId
from onsembl.protocol.terminal_modes import TerminalModes
from onsembl.sql import recordings

FIRST_BYTES = 1024 * 1024
LAST_BYTES = 8 * 1024 * 1024
"""Of a command that has put out more before the place, only so much of its beginning and so much before the place is
looked at: a full-screen program says early what it wants."""


async def read_terminal_modes(call: Call[NoBody]) -> TerminalModesAnswer:
    """A command begins with the modes of a terminal that starts: the agent restores them after each."""
    at = call.query(ModesQuery).at
    pool = call.services.pool
    async with pool.connection() as conn:
        stream = found(await recordings.get(conn, StreamId(call.id("stream_id"))), "stream")
        stream_id = StreamId(stream["id"])
        at = min(at, stream["end"])
        start = max(stream["start"], await recordings.command_start(conn, stream_id, at))
    middle = min(at, start + FIRST_BYTES)
    modes = TerminalModes()
    for first, end in ((start, middle), (max(middle, at - LAST_BYTES), at)):
        async with aclosing(recordings.pieces(pool, stream_id, first, end)) as pieces:
            async for piece in pieces:
                modes.feed(piece.data)
    return TerminalModesAnswer(modes=modes.current())


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/streams/{stream_id:uuid}/modes",
        handler=read_terminal_modes,
        summary="What puts a terminal that starts into the modes in force before the byte at an offset",
        answer=TerminalModesAnswer,
        query=ModesQuery,
        problems=(404,),
    )
]
