"""An agent at a usage limit of its vendor, from the end of its turn to the next command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.agents import Operator, until
from support.api_calls import audit_entries, call_api
from support.command_line import CommandLine
from support.frames import HELLO, next_message

from onsembl.fleet.vendor_limits import GO_ON
from onsembl.protocol.states import Role
from onsembl.sql.database import connect
from onsembl.tasks.recovery import Sweeper

pytestmark = pytest.mark.no_worker


class Turns:
    """An agent on a bare socket, whose turns end as the test says."""

    def __init__(self, socket) -> None:
        self._socket = socket

    async def take(self) -> dict:
        """Accept the next offer."""
        offer = await next_message(self._socket, "offer")
        now = datetime.now(UTC).isoformat()
        await self._send("accepted", command_id=offer["command_id"], started_at=now, output_start=0)
        return offer

    async def end(self, offer: dict, **turn: object) -> None:
        """End the turn: at a limit if `turn` has one, else with success."""
        outcome = "failed" if "limit" in turn else "succeeded"
        now = datetime.now(UTC).isoformat()
        await self._send(
            "ended", command_id=offer["command_id"], outcome=outcome, ended_at=now, usage={"turns": 1}, turn=turn
        )
        await next_message(self._socket, "end_recorded")

    async def _send(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))


async def an_agent(socket) -> Turns:
    await socket.send(json.dumps({**HELLO, "kind": "claude", "takes_rules": True, "takes_attachments": True}))
    await next_message(socket, "welcome")
    return Turns(socket)


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.fixture
async def operator(api) -> Operator:
    return Operator(api, await api.operator())


async def row_of(operator: Operator, agent_id: str) -> dict:
    return await call_api(operator, "GET", f"/v1/agents/{agent_id}", None, 200)


async def queue_of(operator: Operator, agent_id: str) -> list[dict]:
    """The queued commands, in their order."""
    waiting = (await call_api(operator, "GET", f"/v1/agents/{agent_id}/queue", None, 200))["waiting"]
    return [await operator.read({"id": place["command_id"]}) for place in waiting]


async def sweep_after(api, agent_id: str) -> None:
    """Let the time of the agent's limit come, and repair as a worker does."""
    async with await connect(api.database_url, autocommit=True) as conn:
        await conn.execute("update agents set limited_until = now() where id = %s", [agent_id])
    await Sweeper(api.services.pool, 60.0, 60.0).sweep()


async def test_a_queue_waits_for_the_reset_and_goes_on(api, agent, operator):
    """The turn that ended at the limit is sent again ahead of the queue; nothing starts before a minute after the
    reset. What it had done is not begun anew."""
    async with api.agent_socket(agent) as socket:
        turns = await an_agent(socket)
        first = await operator.send(agent.id, "first", priority=3, model="opus")
        second = await operator.send(agent.id, "second")
        resets_at = in_hours(2)
        windows = [{"name": "five_hour", "status": "rejected", "used": 1.0, "resets_at": resets_at}]
        limit = {"resets_at": resets_at, "untouched": True}
        await turns.end(await turns.take(), windows=windows, limit=limit)
        row = await row_of(operator, agent.id)
        reset = datetime.fromisoformat(resets_at)
        assert datetime.fromisoformat(row["limited_until"]) == reset + timedelta(seconds=60)
        assert [(window["name"], window["status"]) for window in row["rate_windows"]] == [("five_hour", "rejected")]
        again, other = await queue_of(operator, agent.id)
        assert (again["text"], again["continues"], again["priority"]) == ("first", first["id"], 3)
        assert (again["conversation_id"], again["turn"]["model"]) == (first["conversation_id"], "opus")
        assert other["id"] == second["id"]
        await Sweeper(api.services.pool, 60.0, 60.0).sweep()
        assert len(await queue_of(operator, agent.id)) == 2

        await sweep_after(api, agent.id)
        await call_api(operator, "POST", f"/v1/agents/{agent.id}/resume", {}, 200)
        async with await connect(api.database_url, autocommit=True) as conn:
            states = await conn.execute("select state from commands order by seq")
            assert [each["state"] for each in await states.fetchall()] == ["failed", "queued", "dispatched"]
    assert [action for action, _ in await audit_entries(api, "agent.usage_limit%")] == [
        "agent.usage_limit_reached",
        "agent.usage_limit_over",
    ]


async def test_commands_of_other_models_go_on(api, agent, operator):
    """At a limit of some models: they overtake what waits, but nothing of their own conversation. Their success does
    not end the limit; a limit of theirs makes the whole queue wait until the first of both is over."""
    async with api.agent_socket(agent) as socket:
        turns = await an_agent(socket)
        first = await operator.send(agent.id, "first", model="claude-Opus-4")
        waits = await operator.send(agent.id, "of the default model")
        fails = await operator.send(agent.id, "fails", model="opus", limits={"on_limit": "fail"})
        other = {"limits": {"on_limit": "fail"}, "model": "sonnet"}
        same = await operator.send(agent.id, "s", conversation=first["conversation_id"], **other)
        goes = await operator.send(agent.id, "goes", **other)
        limit = {"resets_at": in_hours(100), "model": "opus"}
        await turns.end(await turns.take(), limit=limit)
        assert (await row_of(operator, agent.id))["limited_model"] == "opus"
        offer = await turns.take()
        assert offer["command_id"] == goes["id"]
        await turns.end(offer)
        assert (await operator.read(fails))["state"] == "failed"
        again, *rest = await queue_of(operator, agent.id)
        assert (again["continues"], [command["id"] for command in rest]) == (first["id"], [waits["id"], same["id"]])
        assert (await row_of(operator, agent.id))["limited_until"] is not None
        await operator.send(agent.id, "hits its own", model="sonnet")
        await turns.end(await turns.take(), limit={"resets_at": in_hours(1), "model": "sonnet"})
        row = await row_of(operator, agent.id)
        assert row["limited_model"] is None
        assert datetime.fromisoformat(row["limited_until"]) < datetime.fromisoformat(in_hours(2))
        assert (await operator.read(same))["state"] == "failed"


async def test_an_operator_lets_an_agent_go_on(api, agent, operator, tmp_path):
    """A reset that was wrong costs a longer pause each time, until a turn succeeds. A turn that had done something is
    told to go on. The command line and the metrics show the limit."""
    line = CommandLine(api, await api.operator(), tmp_path)
    async with api.agent_socket(agent) as socket:
        turns = await an_agent(socket)
        first = await operator.send(agent.id, "first")
        pauses = []
        for _ in range(3):
            began = datetime.now(UTC)
            await turns.end(await turns.take(), limit={"resets_at": in_hours(-1)})
            until_time = datetime.fromisoformat((await row_of(operator, agent.id))["limited_until"])
            pauses.append((until_time - began).total_seconds() // 60)
            shown, _ = await line.run("agents", "list")
            assert "claude   limited " in shown and "limited until 20" in shown
            metrics = (await api.http.get("/metrics")).text
            assert "onsembl_agents_limited 1.0" in metrics
            await line.run("agents", "go-on", "one")
        assert pauses == [1, 2, 4]
        offer = await turns.take()
        assert offer["text"] == GO_ON
        await turns.end(offer)
        assert (await row_of(operator, agent.id))["limited_until"] is None
        await operator.send(agent.id, "second")
        began = datetime.now(UTC)
        await turns.end(await turns.take(), limit={})
        until_time = datetime.fromisoformat((await row_of(operator, agent.id))["limited_until"])
        assert (until_time - began).total_seconds() // 60 == 1
        continued = (await queue_of(operator, agent.id))[0]
        assert continued["text"] == GO_ON and continued["continues"] != first["id"]
    detail = [detail for action, detail in await audit_entries(api, "agent.usage_limit_reached")]
    assert [each["strikes"] for each in detail] == [1, 2, 3, 1]


async def test_a_command_that_is_not_to_wait_fails(api, agent, operator):
    """At the limit it is not sent again; in the queue, and when it is sent, it fails at once. The others wait."""
    async with api.agent_socket(agent) as socket:
        turns = await an_agent(socket)
        fails = {"limits": {"on_limit": "fail"}}
        first = await operator.send(agent.id, "first", **fails)
        queued = await operator.send(agent.id, "queued", **fails)
        waits = await operator.send(agent.id, "waits")
        await turns.end(await turns.take(), limit={"resets_at": in_hours(1)})
        late = await operator.send(agent.id, "late", **fails)
        assert late["state"] == "failed"
        for command in (first, queued, late):
            assert (await operator.read(command))["state"] == "failed"
        assert "usage limit" in (await operator.read(queued))["error"]
        assert [command["id"] for command in await queue_of(operator, agent.id)] == [waits["id"]]
    ended = [detail["state"] for _, detail in await audit_entries(api, "command.ended")]
    assert ended == ["failed"] * 3


async def test_a_queued_command_is_sent_to_another_agent(api, agent, operator, tmp_path):
    """It begins a new conversation there, with its settings; its place in the old queue is cancelled. What cannot be
    sent there changes nothing."""
    other = await api.enrol("two")
    async with api.agent_socket(agent) as socket, api.agent_socket(other) as second:
        turns, elsewhere = await an_agent(socket), await an_agent(second)
        await operator.send(agent.id, "first")
        settings = {"model": "opus", "priority": 2, "limits": {"tokens": 9}, "rules": {"deny": ["Bash(rm*)"]}}
        command = await operator.send(agent.id, "second", **settings)
        running = await turns.take()
        path = f"/v1/commands/{command['id']}/reassign"
        await call_api(operator, "POST", path, {"agent_id": agent.id}, 409)
        await call_api(operator, "POST", path, {"agent_id": command["id"]}, 409)
        started = f"/v1/commands/{running['command_id']}/reassign"
        await call_api(operator, "POST", started, {"agent_id": other.id}, 409)
        viewer = Operator(api, await api.operator(Role.VIEWER))
        await call_api(viewer, "POST", path, {"agent_id": other.id}, 403)
        line = CommandLine(api, await api.operator(), tmp_path)
        shown, _ = await line.run("commands", "reassign", command["id"], "two")
        assert "in the place of" in shown
        offer = await elsewhere.take()
        assert (offer["text"], offer["limits"]) == ("second", {"tokens": 9})
        made = await operator.read({"id": offer["command_id"]})
        assert (made["turn"]["model"], made["turn"]["rules"], made["priority"]) == ("opus", settings["rules"], 2)
        assert made["conversation_id"] != command["conversation_id"]
        old = await operator.read(command)
        assert (old["state"], old["cancel_reason"]) == ("cancelled", "Sent to two instead.")
    details = [detail for _, detail in await audit_entries(api, "command.reassigned")]
    assert details == [{"from": "one", "to": "two", "command": made["id"]}]


async def test_a_command_is_continued_a_limited_number_of_times(api, agent, operator):
    """A vendor that never lets a turn through does not make the agent send it for ever."""
    async with api.agent_socket(agent) as socket:
        turns = await an_agent(socket)
        await operator.send(agent.id, "first")
        offer = await turns.take()
        async with await connect(api.database_url, autocommit=True) as conn:
            await conn.execute("update commands set continuation = 19")
        await turns.end(offer, limit={"untouched": True})
        await call_api(operator, "POST", f"/v1/agents/{agent.id}/go-on", {}, 200)
        await turns.end(await turns.take(), limit={"untouched": True})

        async def over():
            row = await row_of(operator, agent.id)
            return row["limited_until"] is not None and await queue_of(operator, agent.id) == []

        await until(over, "the command is not sent again")


async def notes(operator: Operator, state: str = "open") -> list[dict]:
    return (await call_api(operator, "GET", f"/v1/attention?state={state}", None, 200))["requests"]


async def test_a_limit_leaves_a_note_until_the_agent_goes_on(api, agent, operator):
    """The note of a limit replaces that of the failed turn. It is withdrawn when the agent goes on, or dismissed."""
    async with api.agent_socket(agent) as socket:
        turns = await an_agent(socket)
        for reset in (in_hours(1), in_hours(2)):
            await operator.send(agent.id, "work", limits={"on_limit": "fail"})
            await turns.end(await turns.take(), limit={"resets_at": reset, "untouched": True})
            (note,) = await notes(operator)
            assert (note["kind"], note["title"]) == ("limit", "work")
            assert note["body"]["until"][:16] >= reset[:16]
            await call_api(operator, "POST", f"/v1/agents/{agent.id}/go-on")
            assert await notes(operator) == []
            assert (await notes(operator, "withdrawn"))[-1]["reason"] == "The agent goes on."
        await operator.send(agent.id, "work", limits={"on_limit": "fail"})
        await turns.end(await turns.take(), limit={"resets_at": in_hours(1), "untouched": True})
        (note,) = await notes(operator)
        dismissed = await call_api(operator, "POST", f"/v1/attention/{note['id']}/dismiss")
        assert dismissed["reason"].startswith("Dismissed by")
        assert (await row_of(operator, agent.id))["limited_until"] is not None, "a dismissal changes nothing"
