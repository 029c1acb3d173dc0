"""The emergency stop, with shipped agents and their processes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from support.agents import FINAL, CuttableLink, Operator, agent_running, sleepers, until
from support.api_calls import audit_entries
from support.frames import HELLO_TEXT, next_message
from support.server import Api, running

from onsembl.api.terminals import hub
from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import Role
from onsembl.sql import agents, halts
from onsembl.sql.audit import SYSTEM, Actor
from onsembl.sql.database import connect

BENCH = Path(__file__).resolve().parents[2] / "loadtests" / "halt_bench.py"
# Ignores every signal but SIGKILL; a child of it leaves group, session and parents.
STUBBORN = """
trap '' INT TERM HUP
( setsid bash -c "trap '' INT TERM HUP; while :; do sleep 1000; done" & ) >/dev/null 2>&1
echo up-$((1+1))
while :; do sleep 1000; done
"""


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


async def halt(operator: Operator, **fields: object) -> dict:
    response = await operator.api.http.post("/v1/halt", json=fields, headers=operator.headers)
    assert response.status_code == 202, response.text
    return response.json()


async def lift(operator: Operator) -> dict:
    response = await operator.api.http.delete("/v1/halt", headers=operator.headers)
    assert response.status_code == 200, response.text
    return response.json()


async def status(operator: Operator) -> dict:
    return (await operator.api.http.get("/v1/halt", headers=operator.headers)).json()


async def until_agent(operator: Operator, name: str, state: str) -> dict:
    async def reached():
        return next((a for a in (await status(operator))["agents"] if (a["name"], a["state"]) == (name, state)), None)

    return await until(reached, f"{name} {state}")  # type: ignore[return-value]


async def actions(api: Api) -> list[str]:
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute("select action from audit where action like 'halt.%' order by id")
        return [row["action"] for row in await cursor.fetchall()]


async def test_everything_stops_and_it_is_proven(api, admin, tmp_path):
    """The stop ends processes that ignore signals or left their group, cancels the queues and holds new commands until
    an admin lifts it."""
    async with agent_running(api, tmp_path) as agent, agent_running(api, tmp_path, "two"):
        await until(lambda: _all_online(api, admin, 2), "both are here")
        command = await admin.send(agent.id, STUBBORN)
        waiting = await admin.send(agent.id, "true")
        await admin.until_state(command, "running")
        await until(lambda: _at_least(2, command), "both of it run")
        begun = await halt(admin, reason="it does harm")
        assert (begun["halt"]["reason"], begun["halt"]["requested_by_name"]) == ("it does harm", "admin@example.org")
        assert [a["name"] for a in begun["agents"]] == ["one", "two"]
        await until_agent(admin, "two", "stopped")  # This agent had no process to stop.
        await until_agent(admin, "one", "stopped")
        assert await sleepers(command) == []
        row = await admin.until_state(command, *FINAL)
        assert (row["state"], row["cancel_reason"]) == ("cancelled", "it does harm")
        row = await admin.read(waiting)
        assert (row["state"], row["error"]) == ("cancelled", "Cancelled in the line by the emergency stop.")
        later = await admin.send(agent.id, "echo later")
        assert later["state"] == "queued"
        again = await halt(admin, reason="again")
        assert again["halt"]["id"] == begun["halt"]["id"]
        assert (await admin.read(later))["state"] == "queued"
        assert (await lift(admin))["halt"]["lifted_by_name"] == "admin@example.org"
        await admin.until_state(later, "succeeded")
        first, *between, last = await actions(api)
        assert (first, last) == ("halt.begun", "halt.lifted")
        # The agents receive the stop before the queues are cancelled.
        assert Counter(between) == {"halt.lines_cancelled": 1, "halt.agent_stopped": 2}


async def _all_online(api: Api, operator: Operator, count: int) -> bool:
    answer = (await api.http.get("/v1/agents", headers=operator.headers)).json()
    return [agent["status"] for agent in answer["agents"]] == ["online"] * count


async def _at_least(count: int, command: dict) -> bool:
    return len(await sleepers(command)) >= count


async def test_who_may(api, admin):
    """Operators may stop, viewers may read the status, admins may lift; without a stop in force a lift is rejected."""
    viewer, operator = Operator(api, await api.operator(Role.VIEWER)), Operator(api, await api.operator(Role.OPERATOR))
    assert await status(viewer) == {"halt": None, "agents": []}
    assert (await api.http.post("/v1/halt", json={}, headers=viewer.headers)).status_code == 403
    assert (await api.http.delete("/v1/halt", headers=admin.headers)).status_code == 409
    await halt(operator)
    assert (await api.http.delete("/v1/halt", headers=operator.headers)).status_code == 403
    assert (await status(viewer))["halt"]["requested_by_name"] == "operator@example.org"
    await lift(admin)
    assert (await status(viewer))["halt"] is None


async def test_an_agent_that_was_away_is_stopped_the_moment_it_returns(api, admin, tmp_path):
    """An offline agent is shown as not reached and stops its command when it returns; an agent that was offline during
    the lift runs commands again after its return."""
    async with CuttableLink(api.url) as link, agent_running(api, tmp_path, server=link.url) as agent:
        command = await admin.send(agent.id, "sleep 1000")
        await until(lambda: _at_least(1, command), "it sleeps")
        link.sever()
        await _until_offline(api, admin, agent.id)
        await halt(admin)
        assert [a["state"] for a in (await status(admin))["agents"]] == ["not_reached"]
        assert len(await sleepers(command)) == 1
        link.mend()
        await until_agent(admin, "one", "stopped")
        assert await sleepers(command) == []
        await admin.until_state(command, "cancelled")
        link.sever()
        await _until_offline(api, admin, agent.id)
        await lift(admin)
        link.mend()
        await admin.until_state(await admin.send(agent.id, "true"), "succeeded")


async def _until_offline(api: Api, operator: Operator, agent_id: str) -> None:
    async def offline():
        answer = await api.http.get(f"/v1/agents/{agent_id}", headers=operator.headers)
        return answer.json()["status"] == "offline"

    await until(offline, "offline")


async def test_it_survives_a_restart_of_the_agent_and_of_the_api(settings, tmp_path):
    """The stop stays in force when agent and API are killed, and the agent then confirms again that nothing runs."""
    async with running(settings) as api:
        admin = Operator(api, await api.operator())
        async with agent_running(api, tmp_path) as agent:
            command = await admin.send(agent.id, STUBBORN)
            await until(lambda: _at_least(2, command), "both of it run")
            agent.process.kill()  # The agent's processes go on, without an agent to stop them.
            await _until_offline(api, admin, agent.id)
            await halt(admin)
    async with running(settings) as api:
        admin = Operator(api, await api.operator())
        assert (await status(admin))["agents"][0]["state"] == "not_reached"
        folder = tmp_path / "agents" / "one" / "credentials.json"
        folder.write_text(folder.read_text().replace(agent_url(folder), api.url))
        async with agent_running(api, tmp_path) as agent:
            await until_agent(admin, "one", "stopped")
            assert await sleepers(command) == []
            assert (await admin.until_state(command, *FINAL))["state"] in ("lost", "cancelled")
            later = await admin.send(agent.id, "true")
            assert later["state"] == "queued"
            await lift(admin)
            await admin.until_state(later, "succeeded")


def agent_url(credentials: Path) -> str:
    return json.loads(credentials.read_text())["server"]


async def test_it_works_with_no_worker_and_reaches_every_instance(settings, tmp_path):
    """Without a worker, a stop at one instance reaches an agent that is connected to another instance."""
    alone = replace(settings, worker=None)
    async with running(alone) as here, running(alone) as there:
        admin = Operator(here, await here.operator())
        async with agent_running(there, tmp_path) as agent:

            async def online():
                answer = await here.http.get(f"/v1/agents/{agent.id}", headers=admin.headers)
                return answer.json()["status"] == "online"

            await until(online, "online")
            command = await admin.send(agent.id, "sleep 1000")
            # A worker would dispatch the command; the test does it in its place.
            await there.services.hub.sync_agent(UUID(agent.id))  # type: ignore[arg-type]
            await until(lambda: _at_least(1, command), "it sleeps")
            await halt(admin)
            await until_agent(admin, "one", "stopped")
            assert await sleepers(command) == []
            await admin.until_state(command, "cancelled")
            await lift(admin)


async def test_what_is_being_promoted_while_the_halt_comes_is_caught(api, admin, database_url):
    """A command that a concurrent transaction promotes is cancelled, and the agents receive the stop before this
    transaction ends."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        async with await connect(database_url, role="onsembl_api") as conn:
            me = (await api.http.get("/v1/me", headers=admin.headers)).json()
            ann = Actor("operator", UUID(me["id"]), "ann", "127.0.0.1")
            row = (await send(conn, CommandContent(text="ls"), AgentId(UUID(agent.id)), ann)).command
            assert row is not None and row["state"] == "dispatched"
            halting = asyncio.create_task(halt(admin))
            await next_message(socket, "halt")  # That transaction is still open.
            assert not halting.done()
            await conn.commit()
            await halting
        row = await admin.read(row)
        assert row["cancel_requested_at"] is not None
        assert (await next_message(socket, "cancel"))["command_id"] == str(row["id"])


async def test_an_agent_that_leaves_while_the_halt_comes_is_not_reachable(api, admin, database_url):
    """An agent whose disconnection is committed after the stop is shown as not reached."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        epoch = (await next_message(socket, "welcome"))["epoch"]
        async with await connect(database_url, role="onsembl_api") as conn:
            assert await agents.disconnected(conn, agent.id, epoch)  # type: ignore[arg-type]
            halting = asyncio.create_task(halt(admin))
            await next_message(socket, "halt")
            await conn.commit()
            assert [a["state"] for a in (await halting)["agents"]] == ["not_reached"]


async def test_an_agent_that_is_shut_out_is_not_waited_for(api, admin):
    """The stop does not wait for a disabled agent; its command is lost, and this end is audited."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        command = await admin.send(agent.id, "go on")
        await next_message(socket, "offer")
        accepted = {"command_id": command["id"], "started_at": "2026-01-01T00:00:00Z", "output_start": 0}
        await socket.send(json.dumps({"type": "accepted", **accepted}))
        await admin.until_state(command, "running")
    await _until_offline(api, admin, agent.id)
    await halt(admin)
    assert [a["state"] for a in (await status(admin))["agents"]] == ["not_reached"]
    disabled = await api.http.post(f"/v1/agents/{agent.id}/disable", headers=admin.headers)
    assert disabled.status_code == 200, disabled.text
    assert (await status(admin))["agents"] == []
    assert [detail["state"] for _, detail in await audit_entries(api, "command.ended")] == ["lost"]


async def test_a_full_connection_holds_up_nobody(api, admin):
    """An agent that reads nothing delays neither the answer nor the messages to other agents."""
    agent, stuck = await api.enrol(), await api.enrol("stuck")
    links = api.services.hub.links
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        links[AgentId(UUID(stuck.id))] = FullLink()
        try:
            await halt(admin)
            number = (await next_message(socket, "halt"))["number"]
            await lift(admin)
            assert (await next_message(socket, "halt_lifted"))["number"] == number
            await admin.send(agent.id, "true")
            await next_message(socket, "offer")
        finally:
            del links[AgentId(UUID(stuck.id))]


class FullLink:
    """A connection whose peer reads nothing."""

    epoch = 1
    boot = attempt = offered = None

    async def send(self, _message: object) -> None:
        await asyncio.Event().wait()

    def close(self, _code: object, _reason: str) -> None:
        pass


async def test_what_came_to_an_agent_before_the_lift_did_is_offered_again(api, admin, monkeypatch):
    """A command whose offer an agent received while it was stopped is offered again at once after the lift."""
    monkeypatch.setattr(hub, "OFFER_AGAIN_SECONDS", float("inf"))
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        await halt(admin)
        command = await admin.send(agent.id, "true")
        await next_message(socket, "halt")
        link = api.services.hub.links[AgentId(UUID(agent.id))]
        link.offered = (CommandId(UUID(command["id"])), 0.0)
        await lift(admin)
        await next_message(socket, "halt_lifted")
        assert (await next_message(socket, "offer"))["command_id"] == command["id"]


async def test_a_process_that_would_not_die_is_shown_with_its_number(api, admin):
    """The status shows the id of a process that does not end, and shows the agent as stopped once it has ended."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        order = await halt(admin)
        told = await next_message(socket, "halt")
        assert (told["halt_id"], told["seconds"]) == (order["halt"]["id"], 2.0)
        report = {"type": "halt_progress", "halt_id": told["halt_id"], "at": "2030-01-01T00:00:00Z"}
        await socket.send(json.dumps({**report, "state": "dying", "processes_left": 1, "pids": [4711]}))
        assert (await until_agent(admin, "one", "dying"))["pids"] == [4711]
        await socket.send(json.dumps({**report, "state": "stopped"}))
        await until_agent(admin, "one", "stopped")
        await socket.send(json.dumps({**report, "state": "stopping"}))  # This late report changes nothing.
        await socket.send(json.dumps({"type": "ping"}))
        await next_message(socket, "pong")
        await until_agent(admin, "one", "stopped")
    await lift(admin)


async def test_a_halt_that_was_cut_short_is_seen_through(api, admin, database_url):
    """A worker cancels the queues if the instance that began the stop died after its first transaction."""
    agent = await api.enrol()
    waiting = await admin.send(agent.id, "true")
    async with await connect(database_url, role="onsembl_api") as conn:
        await halts.begin(conn, SYSTEM, None, 2.0)
        await conn.commit()
    await admin.until_state(waiting, "cancelled")


@pytest.mark.parametrize(
    "agents",
    [
        pytest.param(6, marks=pytest.mark.seconds(6)),
        pytest.param(100, marks=[pytest.mark.soak, pytest.mark.seconds(60), pytest.mark.timeout(400)]),
    ],
)
async def test_all_agents_are_stopped_and_nothing_is_alive(api: Api, agents: int) -> None:
    """The stop leaves no process of any agent alive, as counted in /proc: their trees ignore signals, and parts
    of them have escaped."""
    spec = importlib.util.spec_from_file_location("halt_bench", BENCH)
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    admin = await api.operator()
    result = await bench.stop_a_fleet(api.http, admin.headers, api.enrolment_token, agents)
    print(result)
    assert result["processes_before"] >= bench.PROCESSES_EACH * agents
    assert result["processes_after"] == 0
    async with api.services.pool.connection() as conn:
        cursor = await conn.execute("select state, count(*) from commands group by state")
        assert [(row["state"], row["count"]) for row in await cursor.fetchall()] == [("cancelled", agents)]
