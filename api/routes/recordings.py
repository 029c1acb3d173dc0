"""Recordings of terminals: bytes by offset or time, with or without their times, and exports."""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec
from psycopg.rows import DictRow
from starlette.responses import Response, StreamingResponse

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.recordings_models import (
    AgentRecordingQuery,
    ModesQuery,
    Offset,
    RecordedCommands,
    RecordedCommandsQuery,
    RecordingQuery,
    StorageUse,
    Stream,
    StreamRange,
    StreamRecordingQuery,
    Streams,
    StreamsQuery,
    TerminalModesAnswer,
    Timeline,
    TimelineQuery,
)
from onsembl.api.terminals.recording import EXTENSIONS, MEDIA_TYPES, Format, Part, record
from onsembl.protocol.ids import AgentId, CommandId, StreamId
from onsembl.protocol.json_input import InputError, decode
from onsembl.protocol.states import CommandState
from onsembl.protocol.stream import MAX_OFFSET
from onsembl.protocol.stream_chain import Link, Span, StreamChain
from onsembl.protocol.terminal_modes import TerminalModes
from onsembl.sql import agents, archive, audit, commands, recordings, stream_chains
from onsembl.sql.database import Connection, Pool

PIECE = struct.Struct("<qI")
"""Before each piece of a timed answer: Unix time in milliseconds and length in bytes."""
TIMED_MEDIA_TYPE = "application/vnd.onsembl.pieces"
BLOCK_BYTES = 64 * 1024
ARCHIVED_SECONDS = 2.0
"""How long a recording waits for a command's last bytes, which are archived within half a second or so."""
FIRST_BYTES = 1024 * 1024
LAST_BYTES = 8 * 1024 * 1024
"""Of a command that has put out more before the place, only so much of its beginning and so much before the place is
looked at: a full-screen program says early what it wants."""
_cursor_decoder = msgspec.json.Decoder(tuple[Offset, Offset])
NO_STORE = {"Cache-Control": "no-store"}


async def _stream(conn: Connection, stream_id: UUID) -> DictRow:
    return found(await recordings.get(conn, StreamId(stream_id)), "stream")


async def _chain(conn: Connection, stream: DictRow, upto: int | None) -> StreamChain:
    """The stream; with the streams that continue it, if a range up to `upto` goes on past its end. Then the row's `end`
    is the end of them all."""
    if upto is not None and upto > stream["end"]:
        chain = await stream_chains.get(conn, AgentId(stream["agent_id"]), stream["id"])
        if chain is not None:
            stream["end"] = chain.end
            return chain
    return StreamChain([Link(StreamId(stream["id"]), 0, stream["end"])])


async def read_stream(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        return await _stream(conn, call.id("stream_id"))


async def list_agent_streams(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(StreamsQuery)
    agent_id = AgentId(call.id("agent_id"))
    async with call.services.pool.connection() as conn:
        found(await agents.get(conn, agent_id), "agent")
        page = await read_page(query.limit, partial(recordings.of_agent, conn, agent_id, query.before))
    return {"streams": page.rows, "next_before": page.cursor("created_at")}


async def read_stream_timeline(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(TimelineQuery)
    async with call.services.pool.connection() as conn:
        stream = await _stream(conn, call.id("stream_id"))
        chain = await _chain(conn, stream, query.end)
        start, end = _kept(stream, query.start, query.end)
        sizes: list[dict[str, object]] = []
        base = 0
        for link in chain.links:
            for size in await archive.sizes(conn, link.stream_id):
                sizes.append({"start": base + size.start, "at": size.at, "columns": size.columns, "rows": size.rows})
            base += link.length
        return {
            "stream": stream,
            "parts": query.parts,
            "activity": await recordings.activity(conn, chain.spans(start, end), query.parts),
            "sizes": sizes,
        }


async def list_stream_commands(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(RecordedCommandsQuery)
    try:
        after = decode(_cursor_decoder, query.cursor) if query.cursor is not None else None
    except InputError as error:
        raise Problem(400, "The cursor is invalid.") from error
    async with call.services.pool.connection() as conn:
        stream = await _stream(conn, call.id("stream_id"))
        start, end = _kept(stream, query.start, query.end)
        # Where nothing is kept yet, a command may have begun all the same.
        end = max(end, start + 1)
        stream_id = StreamId(stream["id"])
        page = await read_page(query.limit, partial(recordings.commands_in, conn, stream_id, start, end, after))
    last = [page.cursor("output_start"), page.cursor("seq")] if page.has_more else None
    return {"commands": page.rows, "next_cursor": msgspec.json.encode(last).decode() if last is not None else None}


def _kept(stream: DictRow, start: int | None, end: int | None) -> tuple[int, int]:
    """What is kept of a range."""
    return max(stream["start"], start or 0), min(stream["end"], end) if end is not None else stream["end"]


async def read_storage(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        used = await archive.usage(conn)
        recorded, searched = await archive.disk_use(conn)
    by_agent = [{"agent_id": agent_id, "stored": stored} for agent_id, stored in used.items()]
    return {"agents": by_agent, "archive": recorded, "search": searched}


async def _place(conn: Connection, stream: DictRow, wanted: StreamRange) -> tuple[int, int]:
    """The offsets that are kept of what is wanted. Raises Problem 410 when what is wanted is kept no longer."""
    stream_id = StreamId(stream["id"])
    start, end = wanted.start or 0, stream["end"]
    if wanted.since is not None:
        start = await _offset_at(conn, stream, wanted.since)
    if wanted.end is not None:
        end = min(end, wanted.end)
    elif wanted.until is not None:
        end = await archive.offset_at(conn, stream_id, wanted.until)
    if wanted.end is not None and start > wanted.end:
        raise Problem(400, "The end is before the start.")
    if start < end <= stream["start"]:
        raise Problem(410, f"These bytes are no longer kept. The first byte that is kept is at {stream['start']}.")
    start = max(start, stream["start"])
    return start, max(start, end)


async def _offset_at(conn: Connection, stream: DictRow, at: datetime) -> int:
    """The offset of the first byte that arrived at `at` or later; it may be in a stream that continues this one."""
    base = 0
    for link in (await _chain(conn, dict(stream), MAX_OFFSET)).links:
        offset = await archive.offset_at(conn, link.stream_id, at)
        base += offset
        if offset < link.length:
            break
    return base


async def read_stream_output(call: Call[NoBody]) -> Response:
    """The bytes as they are."""
    return await _output(call, timed=False)


async def read_stream_pieces(call: Call[NoBody]) -> Response:
    """The bytes with the time of each piece of them."""
    return await _output(call, timed=True)


async def _output(call: Call[NoBody], *, timed: bool) -> Response:
    wanted = call.query(StreamRange)
    wanted.check()
    async with call.services.pool.connection() as conn:
        stream = await _stream(conn, call.id("stream_id"))
        chain = await _chain(conn, stream, wanted.end)
        start, end = await _place(conn, stream, wanted)
    return StreamingResponse(
        _bytes(call.services.pool, chain.spans(start, end), timed),
        media_type=TIMED_MEDIA_TYPE if timed else "application/octet-stream",
        headers={**NO_STORE, "Onsembl-Start": str(start), "Onsembl-End": str(end)},
    )


async def _bytes(pool: Pool, spans: Sequence[Span], timed: bool) -> AsyncGenerator[bytes]:
    block = bytearray()
    for span in spans:
        async with aclosing(recordings.pieces(pool, span.stream_id, span.start, span.end)) as pieces:
            async for piece in pieces:
                if timed:
                    block += PIECE.pack(int(piece.at.timestamp() * 1000), len(piece.data))
                block += piece.data
                if len(block) >= BLOCK_BYTES:
                    yield bytes(block)
                    block.clear()
    yield bytes(block)


def _parts(chain: StreamChain, start: int, end: int, stream: DictRow) -> list[Part]:
    return [
        Part(span.stream_id, span.start, span.end, stream["columns"], stream["rows"], continues=number > 0)
        for number, span in enumerate(chain.spans(start, end))
    ]


async def export_stream_recording(call: Call[NoBody]) -> Response:
    query = call.query(StreamRecordingQuery)
    query.check()
    async with call.services.pool.connection() as conn:
        stream = await _stream(conn, call.id("stream_id"))
        chain = await _chain(conn, stream, query.end)
        start, end = await _place(conn, stream, query)
    parts = _parts(chain, start, end, stream)
    title = f"{stream['agent_name']}, {stream['created_at']:%Y-%m-%d %H:%M} UTC"
    return await _recording(call, "stream", stream["id"], parts, query.format, title, stream["agent_name"])


async def export_command_recording(call: Call[NoBody]) -> Response:
    query = call.query(RecordingQuery)
    async with call.services.pool.connection() as conn:
        command = found(await commands.get(conn, CommandId(call.id("command_id"))), "command")
        if command["stream_id"] is None or command["output_start"] is None:
            raise Problem(409, "The command produced no output.", state=command["state"])
        stream = await _stream(conn, command["stream_id"])
    chain, end = await _archived(call.services.pool, stream, command)
    if command["output_start"] < end <= stream["start"]:
        raise Problem(410, "The output of the command is no longer kept.")
    parts = _parts(chain, max(command["output_start"], stream["start"]), end, stream)
    name = f"{stream['agent_name']}-{command['seq']}"
    return await _recording(call, "command", command["id"], parts, query.format, command["text"][:500], name)


async def export_agent_recording(call: Call[NoBody]) -> Response:
    query = call.query(AgentRecordingQuery)
    agent_id = AgentId(call.id("agent_id"))
    wanted = StreamRange(since=query.since, until=query.until)
    async with call.services.pool.connection() as conn:
        agent = found(await agents.get(conn, agent_id), "agent")
        parts: list[Part] = []
        for stream in await recordings.in_span(conn, agent_id, query.since, query.until):
            start, end = await _place(conn, stream, wanted)
            if start < end:
                parts.append(Part(StreamId(stream["id"]), start, end, stream["columns"], stream["rows"]))
    return await _recording(call, "agent", agent_id, parts, query.format, agent["name"], agent["name"])


async def _archived(pool: Pool, stream: DictRow, command: DictRow) -> tuple[StreamChain, int]:
    """The streams with a command's output, and the end of its archived part. Raises Problem 503 while its last bytes
    are on their way; those of a stream that another has followed never come."""
    end: int | None = command["output_end"]
    if end is None:  # it runs, and may go on in another stream; or its end is not known
        async with pool.connection() as conn:
            running = command["state"] == CommandState.RUNNING
            chain = await _chain(conn, stream, MAX_OFFSET if running else None)
        return chain, chain.end
    chain = await _until_archived(pool, stream, end)
    if chain.end < end:
        async with pool.connection() as conn:
            agent = await agents.get(conn, stream["agent_id"])
        if agent is not None and agent["stream_id"] == chain.links[-1].stream_id:
            raise Problem(
                503,
                f"The agent has yet to send {end - chain.end} bytes of the output. Try again, or export the stream.",
                headers={"Retry-After": "2"},
            )
    return chain, min(end, chain.end)


async def _until_archived(pool: Pool, stream: DictRow, end: int) -> StreamChain:
    """Wait a little for the archive to have all bytes below `end`; the streams, as far as they are archived."""
    deadline = time.monotonic() + ARCHIVED_SECONDS
    while True:
        async with pool.connection() as conn:
            stream["end"] = await archive.end(conn, StreamId(stream["id"]))
            chain = await _chain(conn, stream, end)
        if chain.end >= end or time.monotonic() > deadline:
            return chain
        await asyncio.sleep(0.05)


async def _recording(
    call: Call[NoBody], kind: str, id: UUID, parts: list[Part], format: Format, title: str, name: str
) -> Response:
    """Streamed; that it was taken is in the audit log before the first byte leaves."""
    async with call.services.pool.connection() as conn:
        detail = {"format": format, "bytes": sum(part.end - part.start for part in parts)}
        event = audit.Event(
            actor=call.actor, action="recording.exported", target_kind=kind, target_id=str(id), detail=detail
        )
        await audit.write(conn, event)
    filename = f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.{EXTENSIONS[format]}"
    return StreamingResponse(
        record(call.services.pool, parts, format, title),
        media_type=MEDIA_TYPES[format],
        headers={
            **NO_STORE,
            "Content-Disposition": f'attachment; filename="{filename}"',
            "Onsembl-Bytes": str(detail["bytes"]),
        },
    )


async def read_terminal_modes(call: Call[NoBody]) -> TerminalModesAnswer:
    """A command begins with the modes of a terminal that starts: the agent restores them after each."""
    at = call.query(ModesQuery).at
    pool = call.services.pool
    async with pool.connection() as conn:
        stream = await _stream(conn, call.id("stream_id"))
        chain = await _chain(conn, stream, at)
        at = min(at, stream["end"])
        start = max(stream["start"], await recordings.command_start(conn, StreamId(stream["id"]), at))
    middle = min(at, start + FIRST_BYTES)
    modes = TerminalModes()
    for span in (*chain.spans(start, middle), *chain.spans(max(middle, at - LAST_BYTES), at)):
        async with aclosing(recordings.pieces(pool, span.stream_id, span.start, span.end)) as pieces:
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
    ),
    Endpoint(
        method="GET",
        path="/v1/streams/{stream_id:uuid}",
        handler=read_stream,
        summary="Read the recording of a terminal: the range of bytes that is kept",
        answer=Stream,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/agents/{agent_id:uuid}/streams",
        handler=list_agent_streams,
        summary="List an agent's recordings, newest first",
        answer=Streams,
        query=StreamsQuery,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/streams/{stream_id:uuid}/timeline",
        handler=read_stream_timeline,
        summary="Read the output rate over time, and the terminal's sizes",
        answer=Timeline,
        query=TimelineQuery,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/streams/{stream_id:uuid}/commands",
        handler=list_stream_commands,
        summary="List the commands of a stream, in the order of their output",
        answer=RecordedCommands,
        query=RecordedCommandsQuery,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/streams/{stream_id:uuid}/output",
        handler=read_stream_output,
        summary="Read bytes by offset or time; the headers Onsembl-Start and Onsembl-End name the range",
        answer=Stream,
        media_type="application/octet-stream",
        query=StreamRange,
        problems=(404, 410),
    ),
    Endpoint(
        method="GET",
        path="/v1/streams/{stream_id:uuid}/pieces",
        handler=read_stream_pieces,
        summary="Read bytes with times: each piece follows its time in ms (int64) and length (uint32), little-endian",
        answer=Stream,
        media_type=TIMED_MEDIA_TYPE,
        query=StreamRange,
        problems=(404, 410),
    ),
    Endpoint(
        method="GET",
        path="/v1/streams/{stream_id:uuid}/recording",
        handler=export_stream_recording,
        summary="Export a stream, or a part of it, as asciicast or text",
        answer=Stream,
        media_type="application/x-asciicast",
        query=StreamRecordingQuery,
        problems=(404, 410),
    ),
    Endpoint(
        method="GET",
        path="/v1/commands/{command_id:uuid}/recording",
        handler=export_command_recording,
        summary="Export the output of a command as asciicast or text",
        answer=Stream,
        media_type="application/x-asciicast",
        query=RecordingQuery,
        problems=(404, 409, 410, 503),
    ),
    Endpoint(
        method="GET",
        path="/v1/agents/{agent_id:uuid}/recording",
        handler=export_agent_recording,
        summary="Export the output of an agent over a time as asciicast or text",
        answer=Stream,
        media_type="application/x-asciicast",
        query=AgentRecordingQuery,
        problems=(404, 410),
    ),
    Endpoint(
        method="GET",
        path="/v1/storage",
        handler=read_storage,
        summary="Read the disk use of the recordings, by agent",
        answer=StorageUse,
    ),
]
