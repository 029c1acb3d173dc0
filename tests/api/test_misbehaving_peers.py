"""Agents and viewers that break the protocol or fall behind: the server answers by the protocol, in bounded memory."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import psutil
import pytest
from chaos.parts import ApiPart
from support.agents import FINAL, Operator, agent_running, read_until
from support.archive import archived_bytes, until_archived
from support.frames import HELLO, attach, next_message
from support.server import Api, running

from onsembl.protocol.messages import encode_output

LINES = [(30_000_000, 25_000_000), pytest.param(100_000_000, 80_000_000, marks=pytest.mark.soak)]
"""The bytes of a line, and the largest growth of a process that relays it: rings, backlogs, buffers, allocator."""
AGENT_BYTES = 80_000_000
"""The agent's largest allowed memory."""


async def greet(socket, **stream) -> dict:
    await socket.send(json.dumps({**HELLO, "stream": stream or None}))
    return await next_message(socket, "welcome")


@pytest.mark.seconds(15)
@pytest.mark.parametrize(("size", "growth"), LINES)
async def test_a_line_without_end(database_url, tmp_path, size, growth):
    """Output without a line end is archived and reaches a viewer that reads, in bounded memory, while other viewers
    hang or disconnect."""
    part = ApiPart(tmp_path, database_url, worker=True)
    await part.start()
    try:
        async with httpx.AsyncClient(base_url=part.url, timeout=30) as http:
            await part.ready(http)
            api = Api(part.url, database_url, http)
            account = await api.operator()
            operator = Operator(api, account)
            async with AsyncExitStack() as stack:
                agent = await stack.enter_async_context(agent_running(api, tmp_path, anew=True))
                await operator.until_state(await operator.send(agent.id, "true"), *FINAL)  # The agent is connected.
                stuck = await stack.enter_async_context(api.terminal_socket(agent.id))
                await attach(stuck, account.access_token)
                reads = await stack.enter_async_context(api.terminal_socket(agent.id))
                attached = await attach(reads, account.access_token)
                program = psutil.Process(agent.process.pid)
                before, agent_before = part.memory(), program.memory_info().rss
                async with api.terminal_socket(agent.id) as vanishes:
                    await attach(vanishes, account.access_token)
                    vanishes.transport.abort()
                text = f"head -c {size} /dev/zero | tr '\\0' '\\377'; echo; echo last-$((1))"
                command = await operator.send(agent.id, text)
                most = agent_most = 0
                async with asyncio.timeout(150):
                    following = asyncio.create_task(follow(reads, b"last-1"))
                    while not following.done():
                        most = max(most, part.memory() - before)
                        agent_most = max(agent_most, program.memory_info().rss)
                        await asyncio.wait({following}, timeout=0.1)
                    await following
                    row = await operator.until_state(command, *FINAL)
                assert row["state"] == "succeeded"
                print(f"at most {most:,} bytes more, in the agent {agent_most - agent_before:,} more")
                assert most < growth and agent_most - agent_before < growth
                assert agent_most < AGENT_BYTES
                stream = row["stream_id"]
                assert attached["stream_id"] in (None, stream)
                archived = await until_archived(database_url, stream, row["output_end"])
                assert archived.count(b"\xff") == size
    finally:
        await part.stop()


async def follow(socket, wanted: bytes) -> None:
    """Read on, and keep only as many bytes as the search needs."""
    tail = b""
    while wanted not in tail:
        frame = await socket.recv()
        if isinstance(frame, bytes):
            tail = tail[-len(wanted) :] + frame


async def test_anothers_stream_cannot_be_written_to(api):
    """An agent that names another agent's stream gets a stream of its own, and the other stream is unchanged."""
    one, two = await api.enrol("one"), await api.enrol("two")
    async with api.agent_socket(one) as socket:
        stream = (await greet(socket))["stream_id"]
        await socket.send(encode_output(0, b"mine"))
        await next_message(socket, "acknowledged")
    async with api.agent_socket(two) as thief:
        welcome = await greet(thief, id=stream, start=4, end=10)
        assert welcome["stream_id"] != stream and welcome["resume_offset"] == 0
        await thief.send(encode_output(0, b"theirs"))
        await next_message(thief, "acknowledged")
    assert await archived_bytes(api.database_url, stream) == b"mine"


async def test_a_frame_larger_than_the_ring_is_seen_whole(settings):
    """A frame that is larger than the ring reaches the viewer from the archive."""
    written = b"x" * 65_000 + b"the end"
    async with running(replace(settings, ring_bytes=16)) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as viewer:
            stream = (await greet(socket))["stream_id"]
            await attach(viewer, operator.access_token)
            await socket.send(encode_output(0, written))
            assert await read_until(viewer, b"the end") == written
            assert (await next_message(socket, "acknowledged"))["offset"] == len(written)
            assert await archived_bytes(api.database_url, stream) == written


@pytest.mark.parametrize(("size", "whole"), [(7_600_000, True), (24_000_000, False)])
async def test_a_viewer_that_fell_behind_the_ring(settings, size, whole):
    """A viewer behind the ring reads on from the archive; if it is too far behind, it gets a gap with the missed range,
    all later output, and a redrawn full-screen program."""
    written = b"".join(number.to_bytes(4, "big") for number in range(size // 4))
    async with running(replace(settings, ring_bytes=65_536)) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id, max_queue=1) as viewer:
            stream = (await greet(socket))["stream_id"]
            await attach(viewer, operator.access_token)
            for start in range(0, size, 65_536):
                await socket.send(encode_output(start, written[start : start + 65_536]))
            await until_archived(api.database_url, stream, size)
            seen, gaps = bytearray(), 0
            async with asyncio.timeout(60):
                while len(seen) < size:
                    frame = await viewer.recv()
                    if isinstance(frame, bytes):
                        seen += frame
                    else:
                        gap = json.loads(frame)
                        gaps += 1
                        seen += written[len(seen) : len(seen) + gap["missing"]]
                        assert (gap["type"], gap["offset"]) == ("gap", len(seen))
            assert seen == written
            assert (gaps == 0) is whole
            if not whole:
                await next_message(socket, "redraw")
