"""The agents' socket, tested from outside, one frame at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from support.agents import Operator, until
from support.api_calls import audit_entries
from support.cases import cases
from support.frames import HELLO, HELLO_TEXT, close_code, next_message
from support.server import Enrolled, running
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from onsembl.api.terminals import agent_socket
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.messages import AGENT_SUBPROTOCOL, encode_output
from onsembl.sql import commands
from onsembl.sql.database import connect as connect_database

pytestmark = pytest.mark.no_worker


async def greet(socket, **fields) -> dict:
    """Send hello; return the welcome."""
    await socket.send(json.dumps({**HELLO, **fields}))
    return json.loads(await socket.recv())


async def refused(url: str, **kwargs) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(url, compression=None, **kwargs):
            pass
    assert refusal.value.response.headers["content-type"] == "application/problem+json"
    return refusal.value.response.status_code


async def test_nobody_gets_in_without_a_token_of_an_agent(api):
    """A connection without an agent's valid token answers 401; a web page and another subprotocol are rejected, too."""
    agent = await api.enrol()
    operator = await api.operator()
    url = api.url.replace("http", "ws") + "/v1/agent"
    good = {"Authorization": f"Bearer {agent.access_token}"}
    assert await refused(url, subprotocols=[AGENT_SUBPROTOCOL]) == 401
    for token in ("x", operator.access_token, agent.access_token[:-4] + "AAAA"):
        headers = {"Authorization": f"Bearer {token}"}
        assert await refused(url, subprotocols=[AGENT_SUBPROTOCOL], additional_headers=headers) == 401
    assert await refused(url, additional_headers=good) == 400
    page = {**good, "Origin": api.url}
    assert await refused(url, subprotocols=[AGENT_SUBPROTOCOL], additional_headers=page) == 403


async def test_a_connected_agent_is_online_until_it_leaves(api):
    """The agent's status is written at hello and at the end of the connection, each with the connection's epoch."""
    agent, operator = await api.enrol(), await api.operator()

    async def row() -> dict:
        return (await api.http.get(f"/v1/agents/{agent.id}", headers=operator.headers)).json()

    async with api.agent_socket(agent) as socket:
        welcome = await greet(socket)
        assert (welcome["name"], welcome["epoch"], welcome["resume_offset"]) == ("one", 1, 0)
        online = await row()
        assert (online["status"], online["host"], online["epoch"]) == ("online", "here", 1)

    async def offline() -> bool:
        return (await row())["status"] == "offline"

    await until(offline, "offline")


async def test_the_newest_connection_wins_and_the_old_one_cannot_write(api):
    """A second connection of an agent ends the first, whose end does not mark the agent offline."""
    agent, operator = await api.enrol(), await api.operator()
    async with api.agent_socket(agent) as first:
        assert (await greet(first))["epoch"] == 1
        async with api.agent_socket(agent) as second:
            assert (await greet(second))["epoch"] == 2
            assert await close_code(first) == CloseCode.SUPERSEDED
            await second.send('{"type":"ping"}')
            await next_message(second, "pong")
            row = (await api.http.get(f"/v1/agents/{agent.id}", headers=operator.headers)).json()
            assert (row["status"], row["epoch"]) == ("online", 2)


async def test_a_hello_that_is_read_late_replaces_no_later_connection(api):
    """An instance that was stopped meanwhile reads the hello of an attempt that the agent has given up: the connection
    of its later attempt stays, here or elsewhere, and so does its stream. Another run of the agent begins with 1."""
    agent, operator = await api.enrol(), await api.operator()
    run = {**HELLO, "boot": str(uuid4())}

    async def rejected_late() -> bool:
        async with api.agent_socket(agent) as late:
            await late.send(json.dumps({**run, "attempt": 1}))
            return await close_code(late) == CloseCode.GOING_AWAY

    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**run, "attempt": 2}))
        stream = (await next_message(socket, "welcome"))["stream_id"]
        assert await rejected_late()
        await socket.send('{"type":"ping"}')
        await next_message(socket, "pong")

    async def offline() -> bool:
        row = (await api.http.get(f"/v1/agents/{agent.id}", headers=operator.headers)).json()
        return row["status"] == "offline"

    await until(offline, "offline")
    assert await rejected_late()  # by its row, as at another instance
    tail = {"id": stream, "start": 0, "end": 0}
    for attempt in ({**run, "attempt": 3}, {**run, "boot": str(uuid4()), "attempt": 1}, HELLO):
        async with api.agent_socket(agent) as socket:
            await socket.send(json.dumps({**attempt, "stream": tail}))
            assert (await next_message(socket, "welcome"))["stream_id"] == stream


@cases(
    ("frames", "code"),
    [
        (["{"], CloseCode.BAD_MESSAGE),
        (['{"type":"ping"}'], CloseCode.BAD_MESSAGE),
        ([b"bytes before hello"], CloseCode.BAD_MESSAGE),
        ([json.dumps(HELLO), json.dumps(HELLO)], CloseCode.BAD_MESSAGE),
        ([json.dumps(HELLO), "nonsense"], CloseCode.BAD_MESSAGE),
        ([json.dumps(HELLO), b"short"], CloseCode.BAD_MESSAGE),
        ([json.dumps(HELLO), encode_output(1, b"gap")], CloseCode.STREAM_REJECTED),
        ([json.dumps(HELLO), encode_output(2**62, b"far ahead")], CloseCode.STREAM_REJECTED),
        ([json.dumps(HELLO), encode_output(2**63 - 1, b"overflowing")], CloseCode.BAD_MESSAGE),
        ([json.dumps(HELLO), encode_output(2**64 - 1, b"overflowing")], CloseCode.BAD_MESSAGE),
        ([json.dumps(HELLO) + " " * 1024 * 1024], CloseCode.MESSAGE_TOO_BIG),
        ([json.dumps(HELLO), b"\0" * 8 + b"x" * (1024 * 1024)], CloseCode.MESSAGE_TOO_BIG),
    ],
)
async def test_frames_that_the_protocol_does_not_allow_end_the_connection(api, agent, frames, code):
    """A frame that the protocol does not allow ends the connection with the close code for this error."""
    async with api.agent_socket(agent) as socket:
        for frame in frames:
            await socket.send(frame)
        assert await close_code(socket) == code


async def test_an_agent_whose_stream_cannot_be_resumed_is_offline(api, agent, monkeypatch):
    """An agent is offline if the database fails after the agent was marked online and before its welcome."""

    async def fail(*_: object) -> None:
        raise psycopg.OperationalError("the database is gone")

    monkeypatch.setattr(agent_socket, "resume", fail)
    operator = await api.operator()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        assert await close_code(socket) == CloseCode.INTERNAL_ERROR

    async def is_offline() -> bool:
        row = (await api.http.get(f"/v1/agents/{agent.id}", headers=operator.headers)).json()
        return (row["status"], row["epoch"]) == ("offline", 1)

    await until(is_offline, "it is offline")


async def test_output_is_acknowledged_and_resumed(api):
    """The server acknowledges the bytes that it has stored, and a new connection resumes at the next byte."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        stream = (await greet(socket))["stream_id"]
        await socket.send(encode_output(0, b"0123456789"))
        assert (await next_message(socket, "acknowledged"))["offset"] == 10
    tail = {"id": stream, "start": 4, "end": 20}
    async with api.agent_socket(agent) as socket:
        welcome = await greet(socket, stream=tail)
        assert (welcome["stream_id"], welcome["resume_offset"]) == (stream, 10)
        assert (await next_message(socket, "acknowledged"))["offset"] == 10
        await socket.send(encode_output(8, b"89abc"))
        assert (await next_message(socket, "acknowledged"))["offset"] == 13
    async with api.agent_socket(agent) as socket:
        # An agent that has lost the bytes that it sent before begins a new stream.
        welcome = await greet(socket, stream={"id": stream, "start": 4, "end": 12})
        assert welcome["stream_id"] != stream and welcome["resume_offset"] == 0


async def test_a_command_is_offered_again_until_it_is_accepted_and_its_end_taken_once(api):
    """After a lost connection an offer is sent again, and a repeated end of a command is written once."""
    agent, operator = await api.enrol(), await api.operator()
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        command = (
            await api.http.post(f"/v1/agents/{agent.id}/commands", json={"text": "ls"}, headers=operator.headers)
        ).json()
        assert command["state"] == "dispatched"
        assert (await next_message(socket, "offer"))["command_id"] == command["id"]
    accepted = {"command_id": command["id"], "started_at": "2026-01-01T00:00:00Z", "output_start": 0}
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        assert (await next_message(socket, "offer"))["text"] == "ls"
        await socket.send(json.dumps({"type": "accepted", **accepted}))
        await until(lambda: has_state(api, operator, command, "running"), "running")
    ended = {"command_id": command["id"], "outcome": "succeeded", "ended_at": "2026-01-01T00:00:09Z", "exit_code": 0}
    async with api.agent_socket(agent) as socket:
        await greet(socket, running=[accepted])
        for _ in range(2):
            await socket.send(json.dumps({"type": "ended", **ended}))
            assert (await next_message(socket, "end_recorded"))["command_id"] == command["id"]
        changed = {**ended, "outcome": "failed"}
        await socket.send(json.dumps({"type": "ended", **changed}))
        await next_message(socket, "end_recorded")
        assert await has_state(api, operator, command, "succeeded")


@cases("hours", [-1, 1])
async def test_an_agents_clock_moves_no_command(api, caplog, hours):
    """A command of an agent whose clock is an hour off starts after its dispatch, ends before its end is recorded, and
    has the duration that the agent measured; the difference is logged and in the audit log."""
    agent, operator = await api.enrol(f"off-by-{hours}".replace("-1", "minus")), await api.operator()
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        url = f"/v1/agents/{agent.id}/commands"
        command = (await api.http.post(url, json={"text": "ls"}, headers=operator.headers)).json()
        started = datetime.now(UTC) + timedelta(hours=hours)
        report = {"command_id": command["id"], "started_at": started.isoformat()}
        await socket.send(json.dumps({"type": "accepted", **report, "output_start": 0}))
        ended = {"outcome": "succeeded", "ended_at": (started + timedelta(microseconds=10)).isoformat(), "exit_code": 0}
        await socket.send(json.dumps({"type": "ended", **report, **ended}))
        await next_message(socket, "end_recorded")
    row = (await api.http.get(f"/v1/commands/{command['id']}", headers=operator.headers)).json()
    times = [datetime.fromisoformat(row[name]) for name in ("dispatched_at", "started_at", "ended_at")]
    assert times == sorted(times)
    assert times[2] < datetime.now(UTC) + timedelta(seconds=1), "the same machine's clock"
    assert times[2] - times[1] == timedelta(microseconds=10)
    query = f"/v1/audit?target={command['id']}&action=command.ended"
    (event,) = (await api.http.get(query, headers=operator.headers)).json()["events"]
    assert event["detail"]["clock_off_by"] == pytest.approx(hours * 3600, abs=60)
    assert any(getattr(record, "action", "") == "clock_off" for record in caplog.records)


async def test_a_command_that_the_agent_no_longer_knows_is_lost(api):
    """A running command is lost when its agent reconnects without it."""
    agent, operator = await api.enrol(), await api.operator()
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        command = (
            await api.http.post(f"/v1/agents/{agent.id}/commands", json={"text": "ls"}, headers=operator.headers)
        ).json()
        accepted = {"command_id": command["id"], "started_at": "2026-01-01T00:00:00Z", "output_start": 0}
        await socket.send(json.dumps({"type": "accepted", **accepted}))
        await until(lambda: has_state(api, operator, command, "running"), "running")
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        assert await has_state(api, operator, command, "lost")


async def test_one_agent_cannot_end_anothers_command(api):
    """A report about a command of another agent changes nothing."""
    one, two, operator = await api.enrol("one"), await api.enrol("two"), await api.operator()
    async with api.agent_socket(one) as socket, api.agent_socket(two) as thief:
        await greet(socket)
        await greet(thief)
        command = (
            await api.http.post(f"/v1/agents/{one.id}/commands", json={"text": "ls"}, headers=operator.headers)
        ).json()
        ended = {"type": "ended", "command_id": command["id"], "outcome": "failed", "ended_at": "2026-01-01T00:00:09Z"}
        await thief.send(json.dumps(ended))
        await next_message(thief, "end_recorded")
        assert not await has_state(api, operator, command, "failed")


async def has_state(api, operator, command: dict, state: str) -> bool:
    row = (await api.http.get(f"/v1/commands/{command['id']}", headers=operator.headers)).json()
    return row["state"] == state


async def test_a_silent_agent_is_pinged_and_given_up(settings):
    """The server closes a connection after three unanswered pings, with the close code for silence."""
    async with (
        running(replace(settings, heartbeat=0.1, heartbeat_timeout=0.1)) as api,
        api.agent_socket(await api.enrol()) as socket,
    ):
        await greet(socket)
        assert await close_code(socket) == CloseCode.HEARTBEAT_LOST


async def test_a_disabled_agent_is_sent_away_for_good(api):
    """A disabled agent's connection is closed for good, although its token is valid."""
    agent = await api.enrol()
    async with await connect_database(api.database_url) as conn:
        await conn.execute("update agents set disabled_at = now() where id = %s", [agent.id])
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps(HELLO))
        assert await close_code(socket) == CloseCode.REVOKED


async def test_an_agent_that_was_removed_is_not_found(api):
    """An agent whose row was deleted is closed as not found, although its token is valid."""
    agent = await api.enrol()
    async with await connect_database(api.database_url) as conn:
        await conn.execute("delete from agents where id = %s", [agent.id])
    async with api.agent_socket(Enrolled(str(uuid4()), "x", agent.access_token, "")) as socket:
        await socket.send(json.dumps(HELLO))
        assert await close_code(socket) == CloseCode.NOT_FOUND


async def test_what_is_taken_up_when_nobody_waits_any_more_is_stopped(api):
    """The server cancels a failed command that its agent accepts too late, on this connection and on the next."""
    agent, operator = await api.enrol(), Operator(api, await api.operator())
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        command = await operator.send(agent.id, "true")
        offer = await next_message(socket, "offer")
        async with await connect_database(api.database_url, role="onsembl_api") as conn:
            assert await commands.undelivered(conn, offer["command_id"], final=True) == 1
        accepted = {"command_id": command["id"], "started_at": "2026-01-01T00:00:00Z", "output_start": 0}
        await socket.send(json.dumps({"type": "accepted", **accepted}))
        assert (await next_message(socket, "cancel"))["command_id"] == command["id"]
    async with api.agent_socket(agent) as socket:
        await greet(socket, running=[{"type": "accepted", **accepted}])
        assert (await next_message(socket, "cancel"))["command_id"] == command["id"]
        await socket.send(
            json.dumps({"type": "ended", "outcome": "cancelled", "ended_at": "2026-01-01T00:00:01Z", **accepted})
        )
        await next_message(socket, "end_recorded")
    assert (await operator.read(command))["state"] == "failed"


async def test_steps_of_a_cancel_without_a_connection_are_audited(api):
    """Steps of an escalation that arrive with the command's end are audited, and each step is audited once."""
    agent, operator = await api.enrol(), Operator(api, await api.operator())
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        command = await operator.send(agent.id, "sleep 1000")
        await next_message(socket, "offer")
        about = {"command_id": command["id"]}
        accepted = {**about, "started_at": "2026-01-01T00:00:00Z", "output_start": 0}
        await socket.send(json.dumps({"type": "accepted", **accepted}))
        steps = [
            {"type": "cancel_step", **about, "step": step, "at": f"2026-01-01T00:00:0{second}Z", "processes_left": 2}
            for second, step in enumerate(("interrupt", "sigint", "sigterm"))
        ]
        await socket.send(json.dumps(steps[0]))

        async def heard() -> bool:
            return (await operator.read(command))["cancel_step"] is not None

        await until(heard, "the first step")
    end = {**about, "outcome": "cancelled", "ended_at": "2026-01-01T00:00:09Z", "steps": steps}
    for _ in range(2):
        async with api.agent_socket(agent) as socket:
            await socket.send(json.dumps({**HELLO, "ended": [end]}))
            await next_message(socket, "end_recorded")
    assert [detail["step"] for _, detail in await audit_entries(api, "command.cancel_step")] == [
        "interrupt",
        "sigint",
        "sigterm",
    ]
    assert (await operator.read(command))["cancel_step"]["step"] == "sigterm"


async def test_the_output_of_a_command_whose_acceptance_was_lost_is_found(api):
    """A command that was accepted and ended while its agent had no connection has its place in the agent's stream."""
    agent, operator = await api.enrol(), Operator(api, await api.operator())
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        stream_id = (await next_message(socket, "welcome"))["stream_id"]
        command = await operator.send(agent.id, "echo")
        await next_message(socket, "offer")
    end = {"command_id": command["id"], "outcome": "succeeded", "ended_at": "2026-01-01T00:00:09Z"}
    hello = {**HELLO, "stream": {"id": stream_id, "start": 0, "end": 0}}
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**hello, "ended": [{**end, "output_start": 0, "output_end": 0}]}))
        await next_message(socket, "end_recorded")
    ended = await operator.read(command)
    assert (ended["state"], ended["stream_id"], ended["output_end"]) == ("succeeded", stream_id, 0)


async def test_the_output_of_a_command_whose_acceptance_was_undone_is_found(api):
    """A crash of Postgres may undo the acceptance, of which no commit waits for the disk; the connection goes on."""
    agent, operator = await api.enrol(), Operator(api, await api.operator())
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        stream_id = (await next_message(socket, "welcome"))["stream_id"]
        command = await operator.send(agent.id, "echo")
        await next_message(socket, "offer")
        about = {"command_id": command["id"], "started_at": "2026-01-01T00:00:00Z", "output_start": 0}
        await socket.send(json.dumps({"type": "accepted", **about}))
        await operator.until_state(command, "running")
        async with await connect_database(api.database_url, role="onsembl_api", autocommit=True) as conn:
            await conn.execute(
                """update onsembl.commands
                   set state = 'dispatched', stream_id = null, output_start = null, started_at = null where id = %s""",
                [command["id"]],
            )
        end = {"outcome": "succeeded", "ended_at": "2026-01-01T00:00:09Z", "output_end": 0}
        await socket.send(json.dumps({"type": "ended", **about, **end}))
        await next_message(socket, "end_recorded")
    ended = await operator.read(command)
    assert (ended["state"], ended["stream_id"], ended["output_end"]) == ("succeeded", stream_id, 0)
