"""Control of a whole agent: pause, cancel all commands, restart, stop."""

from __future__ import annotations

import pytest
from support.agents import Operator, agent_running, sleepers, until
from support.frames import HELLO_TEXT, next_message
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


async def direct(operator: Operator, agent_id: str, verb: str, **body: object) -> dict:
    response = await operator.api.http.post(f"/v1/agents/{agent_id}/{verb}", json=body, headers=operator.headers)
    assert response.is_success, response.text
    return response.json()


async def agent_row(operator: Operator, agent_id: str) -> dict:
    return (await operator.api.http.get(f"/v1/agents/{agent_id}", headers=operator.headers)).json()


async def actions(api: Api) -> list[str]:
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute(
            """select action from audit
               where action in ('agent.paused', 'agent.resumed', 'agent.all_cancelled', 'agent.restart_requested',
                                'agent.stop_requested')
               order by id"""
        )
        return [row["action"] for row in await cursor.fetchall()]


async def test_a_paused_agent_takes_nothing_new(api, admin, tmp_path):
    """A paused agent finishes its running command and starts none until it is resumed; the audit log has each change
    once."""
    async with agent_running(api, tmp_path) as agent:
        running = await admin.send(agent.id, "until [ -e go ]; do sleep 0.05; done")
        await admin.until_state(running, "running")
        paused = await direct(admin, agent.id, "pause")
        assert paused["paused_by_name"] == "admin@example.org"
        assert (await direct(admin, agent.id, "pause"))["paused_at"] == paused["paused_at"]
        waiting = await admin.send(agent.id, "true")
        (tmp_path / "go").touch()
        await admin.until_state(running, "succeeded")
        assert (await admin.read(waiting))["state"] == "queued"
        resumed = await direct(admin, agent.id, "resume")
        assert (resumed["paused_at"], resumed["paused_by_name"]) == (None, None)
        await admin.until_state(waiting, "succeeded")
        assert await actions(api) == ["agent.paused", "agent.resumed"]


async def test_everything_of_one_agent_is_cancelled(api, admin, tmp_path):
    """Cancelling all commands of an agent ends its queued and running commands, and no command of another agent."""
    other = await api.enrol("other")
    untouched = await admin.send(other.id, "true")
    async with agent_running(api, tmp_path) as agent:
        running = await admin.send(agent.id, "sleep 1000")
        waiting = [await admin.send(agent.id, "true") for _ in range(3)]

        async def sleeps():
            return await sleepers(running)

        await until(sleeps, "it sleeps")
        assert await direct(admin, agent.id, "cancel-all", reason="enough") == {"waiting": 3, "running": True}
        assert [(await admin.read(row))["state"] for row in waiting] == ["cancelled"] * 3
        assert (await admin.until_state(running, "cancelled"))["cancel_reason"] == "enough"
        assert await sleepers(running) == []
    assert (await admin.read(untouched))["state"] == "queued"


async def test_an_agent_is_restarted_and_ended(api, admin, tmp_path):
    """A restarted agent reports its running command as cancelled and reconnects; a stopped agent exits with code 0."""
    async with agent_running(api, tmp_path) as agent:
        running = await admin.send(agent.id, "sleep 1000")
        await admin.until_state(running, "running")
        epoch = (await agent_row(admin, agent.id))["epoch"]
        await direct(admin, agent.id, "restart")
        assert (await admin.until_state(running, "cancelled"))["error"] == "The agent was stopped."

        async def back():
            row = await agent_row(admin, agent.id)
            return row["epoch"] > epoch and row["status"] == "online"

        await until(back, "it is back")
        await admin.until_state(await admin.send(agent.id, "true"), "succeeded")
        await direct(admin, agent.id, "stop")
        assert await agent.process.wait() == 0
    response = await api.http.post(f"/v1/agents/{agent.id}/stop", json={}, headers=admin.headers)
    assert response.status_code in (202, 409)


async def test_only_operators_direct_agents(api, admin):
    """A viewer may not control an agent; an agent that does not exist answers 404, an offline agent 409."""
    viewer = await api.operator(Role.VIEWER)
    agent = await api.enrol()
    for verb in ("pause", "resume", "cancel-all", "restart", "stop"):
        path = f"/v1/agents/{agent.id}/{verb}"
        assert (await api.http.post(path, json={}, headers=viewer.headers)).status_code == 403
        missing = path.replace(agent.id, "00000000-0000-0000-0000-000000000001")
        assert (await api.http.post(missing, json={}, headers=admin.headers)).status_code == 404
    for verb in ("restart", "stop"):
        response = await api.http.post(f"/v1/agents/{agent.id}/{verb}", json={}, headers=admin.headers)
        assert response.status_code == 409
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        await direct(admin, agent.id, "stop")
        assert (await next_message(socket, "leave"))["restart"] is False
