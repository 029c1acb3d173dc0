"""Clients whose sockets another process passes on to Realtime meet the others, and see no difference."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from support.answering import answering
from support.connections import closing
from support.untrusted import untrusted_tls
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from onsembl.api.serving import MAX_FRAME_BYTES
from onsembl.realtime.channels.proxy import RealtimeProxy

from .conftest import PATIENCE, open_wire

HEADER = "X-Forwarded-For"


def passing_on(url: str) -> dict:
    return {"realtime_proxy": RealtimeProxy(url, HEADER, MAX_FRAME_BYTES)}


async def test_clients_of_two_processes_meet(impatient, notes, serve_project):
    """A broadcast, a broadcast by HTTP and a change of a row reach the client of each process. Rejections before the
    upgrade, close codes and the client's departure are passed on."""
    await impatient.operator("ann")
    token = (await impatient.sign_in("ann"))["access_token"]
    async with serve_project(**passing_on(impatient.url)) as other:
        async with open_wire(impatient.url, impatient.key) as here, open_wire(other.url, other.key) as there:
            for wire in (here, there):
                await wire.subscribe(token, {"event": "*", "schema": "public", "table": "notes"}, topic="room")
            sent = {"type": "broadcast", "event": "shout", "payload": {"text": "grüße"}}
            await there.send("realtime:room", "broadcast", sent, join_ref="1")
            assert (await here.expect("broadcast"))["payload"] == {"text": "grüße"}
            answer = await other.http.post(
                "/realtime/v1/api/broadcast",
                json={"messages": [{"topic": "room", "event": "shout", "payload": {"by": "HTTP"}}]},
                headers={"apikey": other.secret},
            )
            assert answer.status_code == 202, answer.text
            for wire in (here, there):
                assert (await wire.expect("broadcast"))["payload"] == {"by": "HTTP"}
            await notes.execute("insert into notes (owner, text) values ('all', 'new')")
            for wire in (here, there):
                assert (await wire.change())["record"]["text"] == "new"
            impatient.builtin.realtime.disconnect_users()
            await asyncio.wait_for(there.connection.wait_closed(), PATIENCE)
            assert there.connection.close_code == 1012
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{other.url.replace('http', 'ws')}/realtime/v1/websocket?apikey=nonsense")
        assert caught.value.response.status_code == 401
        assert caught.value.response.body == b'{"error":"The token provided is not a valid JWT"}'
        while impatient.builtin.realtime.sockets:
            await asyncio.sleep(0.01)


async def test_a_process_without_realtime_says_so(serve_project):
    """While the process with Realtime is away, clients are told to retry."""
    async with serve_project(**passing_on("http://127.0.0.1:9")) as other:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{other.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={other.key}")
        assert caught.value.response.status_code == 503
        answer = await other.http.post("/realtime/v1/api/broadcast", json={"messages": []})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_process_whose_certificate_nobody_trusts_gets_nothing(serve_project, tmp_path):
    """Neither requests nor sockets are passed on to it."""
    async with answering("200 OK", "{}", "application/json", untrusted_tls(tmp_path)) as credentials:
        async with serve_project(**passing_on(credentials.server)) as other:
            answer = await other.http.post("/realtime/v1/api/broadcast", json={"messages": []})
            assert answer.status_code == 503
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"{other.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={other.key}")
            assert caught.value.response.status_code == 503


async def test_the_address_of_a_client_is_its_own(serve_project, monkeypatch):
    """Realtime is told the address of the client that asked, whatever the client says of itself."""
    told: asyncio.Queue[httpx.Headers] = asyncio.Queue()

    @closing
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        told.put_nowait(httpx.Headers([tuple(line.split(": ", 1)) for line in head]))
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, serve_project(**passing_on(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as other:
        for path in ("websocket", "api/broadcast"):
            if path == "websocket":
                with pytest.raises(InvalidStatus):
                    await connect(
                        f"{other.url.replace('http', 'ws')}/realtime/v1/{path}", additional_headers={HEADER: "6.6.6.6"}
                    )
            else:
                await other.http.post(f"/realtime/v1/{path}", json={}, headers={HEADER: "6.6.6.6"})
            assert (await told.get()).get_list(HEADER) == ["127.0.0.1"]
