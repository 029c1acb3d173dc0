"""Faults of the server's own code: one message, one row, one viewer or one stream, and nothing more."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import psycopg
import pytest
from support.archive import until_archived
from support.frames import HELLO, attach, close_code, next_message
from support.server import Api, Enrolled

from onsembl.api.terminals import agent_reports, archiver
from onsembl.api.terminals.agent_socket import AgentSession
from onsembl.api.terminals.control import ViewerControl
from onsembl.api.terminals.hub import Hub
from onsembl.api.terminals.terminal_socket import ViewerSession
from onsembl.fleet.listener import Listener
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.messages import encode_output
from onsembl.sql import commands
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker

LASTING = [RuntimeError("a fault"), psycopg.errors.NumericValueOutOfRange("integer out of range")]


async def greet(socket, **fields) -> dict:
    await socket.send(json.dumps({**HELLO, **fields}))
    return await next_message(socket, "welcome")


async def answers(socket) -> bool:
    """Whether the connection still works."""
    await socket.send('{"type":"ping"}')
    return (await next_message(socket, "pong"))["type"] == "pong"


async def offered(api: Api, agent: Enrolled, operator, socket) -> dict:
    """Send a command; return the end that its agent would report."""
    sent = await api.http.post(f"/v1/agents/{agent.id}/commands", json={"text": "ls"}, headers=operator.headers)
    assert (await next_message(socket, "offer"))["command_id"] == sent.json()["id"]
    return {"command_id": sent.json()["id"], "outcome": "succeeded", "ended_at": "2026-01-01T00:00:09Z", "exit_code": 0}


@pytest.fixture
def unwritable(monkeypatch):
    """A list; while it has an error, an end that succeeded cannot be written."""
    errors: list[Exception] = []
    write = commands.ended

    async def ended(conn, agent_id, end, *rest, **named):
        if errors and end.outcome == "succeeded":
            raise errors[0]
        return await write(conn, agent_id, end, *rest, **named)

    monkeypatch.setattr(commands, "ended", ended)
    return errors


async def test_an_end_that_cannot_be_written_fails_its_command_only(api, unwritable, subtests):
    """The agent is told that it is recorded, and gets its next command; in a hello as well as over a connection."""
    agent, operator = await api.enrol(), await api.operator()
    for error in LASTING:
        with subtests.test(error=error):
            unwritable[:] = [error]
            async with api.agent_socket(agent) as socket:
                await greet(socket)
                end = await offered(api, agent, operator, socket)
                await socket.send(json.dumps({"type": "ended", **end}))
                assert (await next_message(socket, "end_recorded"))["command_id"] == end["command_id"]
                row = (await api.http.get(f"/v1/commands/{end['command_id']}", headers=operator.headers)).json()
                assert row["state"] == "failed"
                assert type(error).__name__ in row["error"]
                end = await offered(api, agent, operator, socket)
            async with api.agent_socket(agent) as socket:
                await greet(socket, ended=[end])
                assert (await next_message(socket, "end_recorded"))["command_id"] == end["command_id"]
                row = (await api.http.get(f"/v1/commands/{end['command_id']}", headers=operator.headers)).json()
                assert (row["state"], type(error).__name__ in row["error"]) == ("failed", True)


async def fails(*_: object, **__: object) -> None:
    raise RuntimeError("a fault")


async def test_a_fault_harms_one_message_or_one_connection(api, monkeypatch):
    """A message that cannot be applied is skipped; a connection that lost one of its tasks is made again."""
    agent, operator = await api.enrol(), await api.operator()
    with monkeypatch.context() as patch:
        patch.setattr(Hub, "keys_answered", lambda *_: 1 / 0)
        patch.setattr(ViewerControl, "receive", fails)
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as viewer:
            await greet(socket)
            await attach(viewer, operator.access_token)
            taken = {"client_id": str(uuid4()), "seq": 1, "refused": None}
            await socket.send(json.dumps({"type": "keys_taken", **taken}))
            assert await answers(socket)
            await viewer.send(json.dumps({"type": "release_control"}))
            assert await answers(viewer)
    with monkeypatch.context() as patch:
        patch.setattr(agent_reports, "write_problem", fails)
        async with api.agent_socket(agent) as socket:
            await greet(socket)
            await socket.send(json.dumps({"type": "problem", "problem": "full", "number": 1}))
            assert await close_code(socket) == CloseCode.INTERNAL_ERROR
    for place in ("_send_heartbeats", "_write_reports", "_acknowledge", "_watch_expiry"):
        with monkeypatch.context() as patch:
            patch.setattr(AgentSession, place, fails)
            async with api.agent_socket(agent) as socket:
                await greet(socket)
                assert await close_code(socket) == CloseCode.INTERNAL_ERROR
    for place in ("_pump", "_watch"):
        with monkeypatch.context() as patch:
            patch.setattr(ViewerSession, place, fails)
            async with api.terminal_socket(agent.id) as viewer:
                await viewer.send(json.dumps({"type": "attach", "access_token": operator.access_token}))
                assert await close_code(viewer) == CloseCode.INTERNAL_ERROR


async def test_a_viewer_that_fails_is_closed_alone(api, monkeypatch):
    """The agent's bytes go on to the other viewers."""
    agent, operator = await api.enrol(), await api.operator()
    async with (
        api.agent_socket(agent) as socket,
        api.terminal_socket(agent.id) as bad,
        api.terminal_socket(agent.id) as good,
    ):
        await greet(socket)
        await attach(bad, operator.access_token)
        [failing] = api.services.hub.viewers
        await attach(good, operator.access_token)
        monkeypatch.setattr(failing, "follow", lambda *_: 1 / 0)
        await socket.send(encode_output(0, b"hello"))
        assert await good.recv() == b"hello"
        assert await close_code(bad) == CloseCode.INTERNAL_ERROR
        assert await answers(socket)


async def test_a_stream_that_cannot_be_archived_keeps_no_other_one_waiting(api, monkeypatch):
    """Its agent connects again; the archive of the other streams goes on."""
    bad, good = await api.enrol(), await api.enrol("two")
    pack = archiver.pack
    async with api.agent_socket(bad) as first, api.agent_socket(good) as second:
        refused = (await greet(first))["stream_id"]
        stream = (await greet(second))["stream_id"]

        def fails_for_one(stream_id, *rest):
            if str(stream_id) == refused:
                raise ValueError("a fault")
            return pack(stream_id, *rest)

        monkeypatch.setattr(archiver, "pack", fails_for_one)
        await first.send(encode_output(0, b"bad"))
        await second.send(encode_output(0, b"good"))
        await until_archived(api.database_url, stream, 4)
        assert await close_code(first) == CloseCode.STREAM_REJECTED


async def test_a_notification_that_cannot_be_applied_harms_no_other(database_url):
    """The connection that listens goes on."""
    heard: list[str] = []
    listening, last = asyncio.Event(), asyncio.Event()

    async def on_notify(_channel: str, payload: str) -> None:
        heard.append(payload)
        if payload == "last":
            last.set()
        raise RuntimeError(payload)

    async def on_listening() -> None:
        listening.set()

    listener = Listener(database_url)
    tasks = [
        asyncio.create_task(listener.run()),
        asyncio.create_task(listener.listen(["faults"], on_notify, on_listening)),
    ]
    async with asyncio.timeout(60):
        await listening.wait()
        async with await connect(database_url, autocommit=True) as conn:
            for payload in ("first", "last"):
                await conn.execute("select pg_notify('faults', %s)", [payload])
        await last.wait()
    await cancel_until_done(tasks)
    assert heard == ["first", "last"]
