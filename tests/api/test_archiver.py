"""The archive as an instance writes it: acknowledged bytes are stored, and each byte is stored once."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from support.archive import archived_bytes, until_archived
from support.frames import HELLO, attach, close_code, next_message, read_bytes
from support.recordings import NOON, add_output
from support.server import PASSWORD, running
from websockets.exceptions import ConnectionClosed

from onsembl.api.terminals import archiver
from onsembl.api.terminals.catch_up import NOT_YET_ARCHIVED
from onsembl.api.terminals.sessions import DATABASE_UNAVAILABLE
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import StreamId
from onsembl.protocol.messages import encode_output
from onsembl.sql import archive
from onsembl.sql.archive_rows import pack
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


async def greet(socket, **stream) -> dict:
    await socket.send(json.dumps({**HELLO, "stream": stream or None}))
    return await next_message(socket, "welcome")


async def acknowledged(socket, upto: int) -> None:
    while (await next_message(socket, "acknowledged"))["offset"] < upto:
        pass


async def test_what_is_acknowledged_is_archived(api):
    """Bytes are acknowledged only after they are archived, with their times and the terminal's sizes."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        stream = (await greet(socket))["stream_id"]
        await socket.send(encode_output(0, b"hello "))
        await socket.send('{"type":"resized","columns":100,"rows":30}')
        await socket.send(encode_output(6, b"world"))
        await acknowledged(socket, 11)
        assert await archived_bytes(api.database_url, stream) == b"hello world"
        async with await connect(api.database_url) as conn:
            cursor = await conn.execute("select start, columns from stream_sizes order by start")
            assert await cursor.fetchall() == [{"start": 0, "columns": 80}, {"start": 6, "columns": 100}]


async def test_what_waits_is_written_before_an_instance_stops(settings):
    """An instance writes its backlog before it stops, so that no agent sends these bytes again."""
    async with running(settings) as api:
        agent = await api.enrol()
        async with api.agent_socket(agent) as socket:
            stream = (await greet(socket))["stream_id"]
            for at in range(0, 50_000, 100):
                await socket.send(encode_output(at, b"x" * 100))
            operator = await api.operator()
            async with api.terminal_socket(agent.id) as viewer:
                await attach(viewer, operator.access_token)
                await read_bytes(viewer, 50_000)
    assert await archived_bytes(settings.database_url, stream) == b"x" * 50_000


async def test_the_next_instance_goes_on_where_the_archive_ends(settings):
    """The next instance continues a stream at the archive's end, and its viewers see the earlier bytes."""
    text = b"".join(b"%07d\n" % number for number in range(1000))
    async with running(settings) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket:
            stream = (await greet(socket))["stream_id"]
            await socket.send(encode_output(0, text[:4000]))
            await acknowledged(socket, 4000)
    async with running(settings) as api:
        async with api.terminal_socket(agent.id) as early:
            # The terminal can be read before the agent is back.
            operator = await sign_in(api)
            attached = await attach(early, operator)
            assert (attached["stream_id"], attached["mode"], attached["offset"]) == (stream, "tail", 0)
            assert await read_bytes(early, 4000) == text[:4000]
            async with api.agent_socket(agent) as socket:
                welcome = await greet(socket, id=stream, start=4000, end=8000)
                assert (welcome["stream_id"], welcome["resume_offset"]) == (stream, 4000)
                await socket.send(encode_output(4000, text[4000:]))
                assert await read_bytes(early, 4000) == text[4000:]
                async with api.terminal_socket(agent.id) as late:
                    attached = await attach(late, operator, stream_id=stream, offset=1234)
                    assert (attached["mode"], attached["offset"]) == ("exact", 1234)
                    assert await read_bytes(late, 8000 - 1234) == text[1234:]
                await acknowledged(socket, 8000)
    assert await archived_bytes(settings.database_url, stream) == text


async def test_the_next_instance_shows_what_retention_has_left(settings):
    """The next instance shows the output that retention has kept of a terminal with little output."""
    async with running(settings) as api:
        agent, _ = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket:
            stream = (await greet(socket))["stream_id"]
    async with running(settings) as api:
        await add_output(api, StreamId(UUID(stream)), b"long ago", after=-40 * 86400)
        await add_output(api, StreamId(UUID(stream)), b"kept")
        async with api.services.pool.connection() as conn:
            await conn.execute("select onsembl.make_archive_partitions(0)")
            await conn.execute("select onsembl.drop_archive_partitions((now()::date - %s::date) + 1)", [NOON])
        async with api.terminal_socket(agent.id) as viewer:
            attached = await attach(viewer, await sign_in(api))
            assert (attached["stream_id"], attached["mode"], attached["offset"]) == (stream, "tail", 8)
            assert await read_bytes(viewer, 4) == b"kept"


async def sign_in(api) -> str:
    response = await api.http.post(
        "/auth/v1/token?grant_type=password",
        json={"email": "admin@example.org", "password": PASSWORD},
        headers={"apikey": await api.key()},
    )
    return response.json()["access_token"]


async def test_two_instances_that_meet_over_a_stream_write_each_byte_once(settings):
    """If two instances have bytes of one stream, each byte is written once and viewers that follow miss none."""
    text = bytes(range(256)) * 40
    async with running(settings) as first, running(settings) as second:
        agent, operator = await first.enrol(), await first.operator()
        async with first.terminal_socket(agent.id) as viewer:
            await attach(viewer, operator.access_token)
            async with first.agent_socket(agent) as socket:
                stream = (await greet(socket))["stream_id"]
                await socket.send(encode_output(0, text[:5000]))
                assert await read_bytes(viewer, 5000) == text[:5000]
                async with second.agent_socket(agent) as other:
                    welcome = await greet(other, id=stream, start=0, end=6000)
                    at = welcome["resume_offset"]
                    assert welcome["stream_id"] == stream and at in (0, 5000)
                    await other.send(encode_output(at, text[at:6000]))
                    await acknowledged(other, 6000)
                    assert await close_code(viewer) == CloseCode.ELSEWHERE
            # The agent returns to the first instance, whose ring lacks the bytes that went to the second.
            async with first.agent_socket(agent) as socket:
                assert (await greet(socket, id=stream, start=6000, end=8000))["resume_offset"] == 6000
                await socket.send(encode_output(6000, text[6000:8000]))
                async with first.terminal_socket(agent.id) as viewer:
                    attached = await attach(viewer, operator.access_token, stream_id=stream, offset=5000)
                    assert attached["mode"] == "exact"
                    assert await read_bytes(viewer, 3000) == text[5000:8000]
                await acknowledged(socket, 8000)
    assert await archived_bytes(settings.database_url, stream) == text[:8000]


@asynccontextmanager
async def attached_again(api, agent, token: str, **place):
    """Attach after the database was down; yield the socket and the answer, or None if the server closed the socket, and
    retry while a broken database connection causes the close."""
    while True:
        async with api.terminal_socket(agent.id) as socket:
            try:
                attached = await attach(socket, token, **place)
            except ConnectionClosed:
                if socket.close_reason == DATABASE_UNAVAILABLE:
                    continue
                attached = None
            yield socket, attached
            return


async def test_while_the_database_is_away_viewers_see_on_and_memory_stays(own_postgres, settings):
    """While the database is down, viewers see new output, the backlog keeps its bound, and the rest is sent again
    later."""
    settings = replace(settings, database_url=own_postgres.url(), ring_bytes=64_000, backlog_bytes=100_000)
    text = bytes(index % 251 for index in range(1_000_000))
    async with running(settings) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as viewer:
            stream = (await greet(socket))["stream_id"]
            await attach(viewer, operator.access_token)
            await socket.send(encode_output(0, text[:10_000]))
            assert await read_bytes(viewer, 10_000) == text[:10_000]
            await acknowledged(socket, 10_000)
            await asyncio.to_thread(own_postgres.stop)
            for at in range(10_000, len(text), 10_000):
                await socket.send(encode_output(at, text[at : at + 10_000]))
                assert await read_bytes(viewer, 10_000) == text[at : at + 10_000]
            assert api.services.hub.archiver.budget.used <= 110_000
            await asyncio.to_thread(own_postgres.start)
            again = (await next_message(socket, "resend"))["offset"]
            assert 10_000 < again <= 120_000
            # A viewer that resumes at a byte that is neither in the ring nor in the archive is asked to retry.
            token, place = operator.access_token, {"stream_id": stream, "offset": 500_000}
            async with attached_again(api, agent, token, **place) as (early, attached):
                assert attached is None and early.close_code == CloseCode.INTERNAL_ERROR
                assert early.close_reason == NOT_YET_ARCHIVED
            for at in range(again, len(text), 10_000):
                await socket.send(encode_output(at, text[at : at + 10_000]))
            await acknowledged(socket, len(text))
            assert api.services.hub.archiver.budget.used == 0
            async with attached_again(api, agent, token, **place) as (late, attached):
                assert attached is not None and attached["mode"] == "exact"
                assert await read_bytes(late, 500_000) == text[500_000:]
        assert await until_archived(settings.database_url, stream, len(text)) == text


@pytest.mark.parametrize("size", [1_000_000, pytest.param(3_000_000, marks=pytest.mark.soak)])
async def test_a_flood_goes_as_fast_as_it_is_written_down(settings, monkeypatch, size):
    """If the database is up, a full backlog slows its own agent down, and no byte is sent twice."""
    monkeypatch.setattr(archiver, "SLOW_WRITE_SECONDS", 60.0)  # a busy machine's database is slow, not unavailable
    settings = replace(settings, ring_bytes=64_000, backlog_bytes=100_000)
    text = bytes(index % 253 for index in range(size))
    async with running(settings) as api:
        agent = await api.enrol()
        async with api.agent_socket(agent) as socket:
            stream = (await greet(socket))["stream_id"]
            most = 0
            for at in range(0, len(text), 50_000):
                await socket.send(encode_output(at, text[at : at + 50_000]))
                most = max(most, api.services.hub.archiver.budget.used)
            await acknowledged(socket, len(text))
        assert most <= 150_000
        assert await archived_bytes(settings.database_url, stream) == text


async def test_an_archive_that_was_put_back_gets_a_new_stream(api):
    """If the database was restored to an earlier state, the agent begins a new stream."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        stream = (await greet(socket))["stream_id"]
        await socket.send(encode_output(0, b"0123456789"))
        await acknowledged(socket, 10)
        async with await connect(api.database_url) as conn:
            await conn.execute("update archive_ends set ended = 4")
        await socket.send(encode_output(10, b"more"))
        assert await close_code(socket) == 4460
    async with api.agent_socket(agent) as socket:
        welcome = await greet(socket, id=stream, start=10, end=14)
        assert welcome["stream_id"] != stream and welcome["resume_offset"] == 0


async def test_a_new_stream_begins_where_the_archive_ends(api):
    """An agent that lost bytes begins anew after its archived bytes, also if it cannot name the streams between. Bytes
    that wait in memory for an old stream are not written any more."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        first = (await greet(socket))["stream_id"]
        await socket.send(encode_output(0, b"0123456789"))
        await acknowledged(socket, 10)
    async with api.agent_socket(agent) as socket:  # it has lost what came after 7, and has written 4 bytes since
        welcome = await greet(socket, id=first, start=2, end=11, sent_end=7)
        second = welcome["stream_id"]
        assert (second != first, welcome["begins_at"], welcome["resume_offset"]) == (True, 7, 0)
        await socket.send(encode_output(0, b"new!"))
        await acknowledged(socket, 4)
    async with api.agent_socket(agent) as socket:  # its disk still names the first
        welcome = await greet(socket, id=first, start=2, end=15, sent_end=15)
        third = welcome["stream_id"]
        assert (third in (first, second), welcome["begins_at"]) == (False, 11)
        async with await connect(api.database_url, role="onsembl_api") as conn:
            late = pack(StreamId(UUID(second)), 4, [b"late"], [NOON.timestamp()])
            assert await archive.write(conn, late) == {}
        await socket.send(encode_output(0, b"last"))
        await acknowledged(socket, 4)
    texts = [await archived_bytes(api.database_url, stream) for stream in (first, second, third)]
    assert texts == [b"0123456789", b"new!", b"last"]


async def test_a_viewer_that_saw_more_than_was_archived_waits_for_its_byte(settings):
    """A viewer that saw bytes before the instance died without archiving them receives only the bytes after these."""
    async with running(settings) as api:
        agent, _ = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket:
            stream = (await greet(socket))["stream_id"]
            await socket.send(encode_output(0, b"0123456789"))
            await acknowledged(socket, 10)
    async with running(settings) as api, api.terminal_socket(agent.id) as viewer:
        attached = await attach(viewer, await sign_in(api), stream_id=stream, offset=14)
        assert (attached["mode"], attached["offset"]) == ("exact", 14)
        async with api.agent_socket(agent) as socket:
            assert (await greet(socket, id=stream, start=10, end=18))["resume_offset"] == 10
            await socket.send(encode_output(10, b"abcdefgh"))
            assert await read_bytes(viewer, 4) == b"efgh"
