"""The viewers' socket, tested from outside."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from support.agents import read_until
from support.cases import cases
from support.frames import HELLO_TEXT, attach, close_code, next_message
from support.server import running
from websockets.exceptions import InvalidStatus

from onsembl.api.terminals import terminal as terminal_module
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import StreamId
from onsembl.protocol.messages import encode_output
from onsembl.protocol.states import Role
from onsembl.sql import archive

pytestmark = pytest.mark.no_worker


async def bytes_of(socket, count: int) -> bytes:
    seen = b""
    async with asyncio.timeout(30):
        while len(seen) < count:
            frame = await socket.recv()
            assert isinstance(frame, bytes), frame
            seen += frame
    return seen


async def test_a_page_of_another_site_is_refused_before_the_upgrade(api):
    """An unknown Origin answers 403; our own Origin and none are accepted."""
    agent = await api.enrol()
    with pytest.raises(InvalidStatus) as refusal:
        async with api.terminal_socket(agent.id, additional_headers={"Origin": "https://evil.example"}):
            pass
    assert refusal.value.response.status_code == 403
    for headers in ({"Origin": api.url}, {}):
        async with api.terminal_socket(agent.id, additional_headers=headers):
            pass


async def test_only_an_operator_may_look(api):
    """An invalid token, an agent's token and an agent that does not exist each end the connection with their close
    code, and nothing is kept of them."""
    agent, operator = await api.enrol(), await api.operator(Role.VIEWER)
    for agent_id, token, code in (
        (agent.id, "x", CloseCode.UNAUTHENTICATED),
        (agent.id, agent.access_token, CloseCode.UNAUTHENTICATED),
        (str(uuid4()), operator.access_token, CloseCode.NOT_FOUND),
    ):
        async with api.terminal_socket(agent_id) as socket:
            await socket.send(json.dumps({"type": "attach", "access_token": token}))
            assert await close_code(socket) == code
    assert not api.services.hub.connecting, "an id that no agent has takes memory"


@cases("frame", ["{", '{"type":"ping"}', b"bytes", '{"type":"attach"}'])
async def test_the_first_message_is_attach(api, agent, frame):
    """A first message other than attach ends the connection."""
    async with api.terminal_socket(agent.id) as socket:
        await socket.send(frame)
        assert await close_code(socket) == CloseCode.BAD_MESSAGE


async def test_a_viewer_that_comes_before_the_agent_sees_its_first_byte(api):
    """A viewer that attaches before the agent connects sees the agent's first bytes."""
    agent, operator = await api.enrol(), await api.operator()
    async with api.terminal_socket(agent.id) as viewer:
        assert (await attach(viewer, operator.access_token))["stream_id"] is None
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            started = json.loads(await viewer.recv())
            assert (started["type"], started["offset"]) == ("stream_started", 0)
            await socket.recv()
            await socket.send(encode_output(0, b"first"))
            assert await bytes_of(viewer, 5) == b"first"


async def test_a_viewer_goes_on_where_it_was_or_is_told_that_it_cannot(settings):
    """Attach answers tail, exact or gap with an offset, and sends the bytes from this offset."""
    async with running(replace(settings, ring_bytes=16)) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            stream = json.loads(await socket.recv())["stream_id"]
            for offset in range(0, 40, 8):
                await socket.send(encode_output(offset, b"%08d" % offset))
            await acknowledged(socket, 40)
            everything = b"".join(b"%08d" % offset for offset in range(0, 40, 8))
            for place, mode, offset in (
                ({}, "tail", 24),
                ({"stream_id": stream, "offset": 33}, "exact", 33),
                ({"stream_id": stream, "offset": 40}, "exact", 40),
                ({"stream_id": stream, "offset": 3}, "exact", 3),  # from the archive
                ({"stream_id": stream, "offset": 99}, "gap", 24),
                ({"stream_id": str(uuid4()), "offset": 33}, "gap", 24),
            ):
                async with api.terminal_socket(agent.id) as viewer:
                    attached = await attach(viewer, operator.access_token, **place)
                    assert (attached["mode"], attached["offset"], attached["columns"]) == (mode, offset, 80)
                    assert await bytes_of(viewer, 40 - offset) == everything[offset:]


async def test_a_viewer_is_told_when_bytes_were_received(settings, monkeypatch):
    """The times of bytes come before the bytes: live, for a late viewer, from the archive where the memory does not
    reach, and after a restart of the server. A viewer that does not ask for times gets none."""
    clock = [1_700_000_000.0]
    monkeypatch.setattr(terminal_module, "time", lambda: clock[0])
    async with running(replace(settings, ring_bytes=16)) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as live:
            await socket.send(HELLO_TEXT)
            stream = json.loads(await socket.recv())["stream_id"]
            await attach(live, operator.access_token, times=True)
            for offset in range(0, 40, 8):
                await socket.send(encode_output(offset, b"%08d" % offset))
                assert json.loads(await live.recv()) == times({offset: clock[0]})
                await bytes_of(live, 8)
                clock[0] += 10
            await acknowledged(socket, 40)
            async with api.terminal_socket(agent.id) as late:
                assert (await attach(late, operator.access_token, times=True))["offset"] == 24
                assert json.loads(await late.recv()) == times({24: clock[0] - 20, 32: clock[0] - 10})
                await bytes_of(late, 16)
            async with api.terminal_socket(agent.id) as behind:
                await attach(behind, operator.access_token, times=True, stream_id=stream, offset=3)
                told = json.loads(await behind.recv())
                assert told == times({3: clock[0] - 50, 8: clock[0] - 40, 16: clock[0] - 30})
                await bytes_of(behind, 21)
                assert json.loads(await behind.recv()) == times({24: clock[0] - 20, 32: clock[0] - 10})
            async with api.terminal_socket(agent.id) as plain:
                await attach(plain, operator.access_token)
                assert await bytes_of(plain, 16) == b"%08d%08d" % (24, 32)
    async with running(replace(settings, ring_bytes=16)) as api, api.terminal_socket(agent.id) as after:
        operator = await api.operator()
        await attach(after, operator.access_token, times=True)
        assert json.loads(await after.recv()) == times({24: clock[0] - 20, 32: clock[0] - 10})


def times(marks: dict[int, float]) -> dict[str, object]:
    """The message with these marks."""
    seconds = [int(second) for second in marks.values()]
    return {"type": "times", "offsets": [*marks], "seconds": seconds, "exact_from": 0}


async def acknowledged(socket, upto: int) -> None:
    async with asyncio.timeout(30):
        while True:
            message = json.loads(await socket.recv())
            if message["type"] == "acknowledged" and message["offset"] == upto:
                return


async def test_an_operators_window_sizes_the_terminal_and_a_viewers_does_not(api):
    """An operator's window resizes the terminal and a viewer's does not; every viewer receives the new size."""
    agent = await api.enrol()
    operator, looker = await api.operator(), await api.operator(Role.VIEWER)
    async with (
        api.agent_socket(agent) as socket,
        api.terminal_socket(agent.id) as one,
        api.terminal_socket(agent.id) as two,
    ):
        await socket.send(HELLO_TEXT)
        await socket.recv()
        await attach(one, looker.access_token)
        await attach(two, operator.access_token)
        await one.send('{"type":"resize","columns":10,"rows":10}')
        await one.send('{"type":"ping"}')
        assert json.loads(await one.recv())["type"] == "pong"
        await two.send('{"type":"resize","columns":100,"rows":30}')
        assert json.loads(await socket.recv()) == {"type": "resize", "columns": 100, "rows": 30}
        await socket.send('{"type":"resized","columns":100,"rows":30}')
        assert json.loads(await one.recv()) == {"type": "resized", "columns": 100, "rows": 30}


async def test_a_new_size_goes_for_the_bytes_that_were_written_for_it(api):
    """A new size applies from its offset, for attached viewers, later viewers and the archive."""
    agent, operator = await api.enrol(), await api.operator()
    async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as early:
        await socket.send(HELLO_TEXT)
        stream = (await next_message(socket, "welcome"))["stream_id"]
        await attach(early, operator.access_token)
        await socket.send(encode_output(0, b"old"))
        await socket.send('{"type":"resized","columns":100,"rows":30,"offset":8}')
        await socket.send(encode_output(3, b"older" + b"new"))
        await acknowledged(socket, 11)
        async with api.terminal_socket(agent.id) as late:
            assert (await attach(late, operator.access_token))["columns"] == 80
            for viewer in (early, late):
                assert await bytes_of(viewer, 8) == b"oldolder"
                assert json.loads(await viewer.recv()) == {"type": "resized", "columns": 100, "rows": 30}
                assert await bytes_of(viewer, 3) == b"new"
        async with api.terminal_socket(agent.id) as exact:
            attached = await attach(exact, operator.access_token, stream_id=stream, offset=8)
            assert (attached["mode"], attached["columns"]) == ("exact", 100)
            assert await bytes_of(exact, 3) == b"new"
        async with api.services.pool.connection() as conn:
            assert [size.start for size in await archive.sizes(conn, StreamId(UUID(stream)))] == [0, 8]


async def test_another_operators_token_does_not_take_over_a_socket(api):
    """A socket accepts a newer token of the same operator only."""
    agent = await api.enrol()
    one, two = await api.operator(), await api.operator(Role.VIEWER)
    async with api.terminal_socket(agent.id) as viewer:
        await attach(viewer, one.access_token)
        await viewer.send(json.dumps({"type": "token", "access_token": two.access_token}))
        assert await close_code(viewer) == CloseCode.FORBIDDEN


async def test_a_silent_viewer_is_given_up(settings):
    """The server closes the connection of a viewer that stays silent."""
    async with running(replace(settings, heartbeat=0.1, heartbeat_timeout=0.1)) as api:
        operator = await api.operator()
        async with api.terminal_socket((await api.enrol()).id) as viewer:
            await attach(viewer, operator.access_token)
            assert await close_code(viewer) == CloseCode.HEARTBEAT_LOST


async def test_a_tail_comes_with_the_modes_in_force(settings):
    """A tail has the modes that its full-screen program set before the ring's beginning; an exact attach has none."""
    async with running(replace(settings, ring_bytes=1000)) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as first:
            await socket.send(HELLO_TEXT)
            stream = (await next_message(socket, "welcome"))["stream_id"]
            await attach(first, operator.access_token)
            begin, rest = b"\x1b[?1049h\x1b[?25l\x1b[?2004h", b"x" * 4000
            await socket.send(encode_output(0, begin))
            await socket.send(encode_output(len(begin), rest))
            await read_until(first, b"x" * 100)
            async with api.terminal_socket(agent.id) as late:
                attached = await attach(late, operator.access_token)
                assert attached["offset"] > len(begin)
                assert attached["modes"] == "\x1b[?1049h\x1b[?25l\x1b[?2004h"
            async with api.terminal_socket(agent.id) as exact:
                place = {"stream_id": stream, "offset": len(begin) + 4000}
                attached = await attach(exact, operator.access_token, **place)
                assert (attached["mode"], attached["modes"]) == ("exact", "")
