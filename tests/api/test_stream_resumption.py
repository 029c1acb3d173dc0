"""Where a stream goes on when its agent connects again: no byte is acknowledged that the archive does not have."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from support.archive import until_archived
from support.frames import HELLO, close_code, next_message
from websockets.asyncio.client import ClientConnection

from onsembl.api.terminals import agent_socket
from onsembl.api.terminals.direct_socket import EXTENSION
from onsembl.api.terminals.stream_resumption import held
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import encode_output
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


async def greet(socket: ClientConnection, **stream: object) -> dict:
    """Send hello with this stream, if any; return the welcome."""
    await socket.send(json.dumps({**HELLO, **({"stream": stream} if stream else {})}))
    return json.loads(await socket.recv())


async def test_a_connection_that_is_replaced_takes_no_more_bytes(api, monkeypatch):
    """Bytes that come over the older connection once the place of resumption is decided are sent again over the newer
    one, and archived with those before them."""
    agent = await api.enrol()
    taken: list[int] = []

    def held_before_more_bytes(terminal):
        found = held(terminal)
        if older is not None and older.on_binary is not None:
            taken.append(older.on_binary([encode_output(4, b"late")]))
        return found

    older = None
    monkeypatch.setattr(agent_socket, "held", held_before_more_bytes)
    async with await connect(api.database_url) as conn, api.agent_socket(agent) as first:
        stream = (await greet(first))["stream_id"]
        link = api.services.hub.links[AgentId(UUID(agent.id))]
        older = link._websocket.scope["extensions"][EXTENSION]
        terminal = api.services.hub.terminals[AgentId(UUID(agent.id))]
        await conn.execute("lock table archive in exclusive mode")  # the bytes wait in memory
        await first.send(encode_output(0, b"0123"))
        await first.send('{"type":"ping"}')
        await next_message(first, "pong")
        async with api.agent_socket(agent) as second:
            welcome = await greet(second, id=stream, start=0, end=8)
            assert (welcome["stream_id"], welcome["resume_offset"], taken) == (stream, 4, [0])
            await conn.rollback()
            await second.send(encode_output(4, b"late"))
            assert await until_archived(api.database_url, stream, 8) == b"0123late"
            assert terminal.log.backlog.start <= 8


async def test_bytes_that_were_dropped_are_sent_again(api, monkeypatch):
    """An agent whose waiting bytes were dropped while it connected is sent away, and sends them over its next
    connection."""
    agent = await api.enrol()

    def held_and_dropped(terminal):
        found = held(terminal)
        if found is not None and found.end > found.start:
            terminal.log.backlog.restart(found.start)  # as the archiver does with bytes that it cannot write
        return found

    monkeypatch.setattr(agent_socket, "held", held_and_dropped)
    async with await connect(api.database_url) as conn:
        async with api.agent_socket(agent) as first:
            stream = (await greet(first))["stream_id"]
            await conn.execute("lock table archive in exclusive mode")
            await first.send(encode_output(0, b"0123"))
            await first.send('{"type":"ping"}')
            await next_message(first, "pong")
            async with api.agent_socket(agent) as second:
                await second.send(json.dumps({**HELLO, "stream": {"id": stream, "start": 0, "end": 4}}))
                assert await close_code(second) == CloseCode.STREAM_REJECTED
        async with api.agent_socket(agent) as third:
            welcome = await greet(third, id=stream, start=0, end=4)
            assert (welcome["stream_id"], welcome["resume_offset"]) == (stream, 0)
            await conn.rollback()
            await third.send(encode_output(0, b"0123"))
            assert await until_archived(api.database_url, stream, 4) == b"0123"
