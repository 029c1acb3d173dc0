"""After a restored backup, agents come back by their recovery secrets, and report what has run since."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from support.agents import FINAL, CuttableLink, Operator, agent_running, until
from support.backups import dump, restore
from support.server import running

from onsembl.agent.enrolment import credentials as store
from onsembl.api.auth import agent_tokens
from onsembl.protocol.enrolment import RECOVERY_CLOSED
from onsembl.protocol.states import Role


async def recover(api, secret: str):
    return await api.http.post("/v1/agents/recover", json={}, headers={"Authorization": f"Bearer {secret}"})


async def actions(api) -> list[tuple[str, str]]:
    """The audited actions of recoveries, in order, with their outcome."""
    async with api.services.pool.connection() as conn:
        rows = await conn.execute("select action, outcome from audit where action ~ 'recover' order by id")
        return [(row["action"], row["outcome"]) for row in await rows.fetchall()]


@pytest.mark.no_worker
async def test_a_secret_works_once_in_an_open_recovery(api):
    """It is rejected while no recovery is open, works again until its tokens are used, and then raises an alert."""
    admin, agent = await api.operator(), await api.enrol("one")
    closed = await recover(api, agent.recovery_secret)
    assert (closed.status_code, closed.json()["type"], closed.headers["retry-after"]) == (403, RECOVERY_CLOSED, "30")
    opened = await api.http.post("/v1/recovery", json={}, headers=admin.headers)
    assert (opened.status_code, opened.json()["recovery"]["open"]) == (201, True)
    assert (await api.http.post("/v1/recovery", json={}, headers=admin.headers)).status_code == 409
    lost = await recover(api, agent.recovery_secret)
    taken = await recover(api, agent.recovery_secret)
    assert (lost.status_code, taken.status_code) == (200, 200)

    async def refresh(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return (await api.http.post("/v1/agents/token", json={}, headers=headers)).status_code

    assert await refresh(agent.refresh_token) == 401
    assert await refresh(lost.json()["refresh_token"]) == 401
    assert await refresh(taken.json()["refresh_token"]) == 200
    assert (await recover(api, agent.recovery_secret)).status_code == 401
    alerts = (await api.http.get("/v1/alerts", headers=admin.headers)).json()["alerts"]
    assert [alert["kind"] for alert in alerts] == ["recovery_secret_reused"]
    status = (await api.http.delete("/v1/recovery", headers=admin.headers)).json()
    assert (status["recovery"]["open"], [row["name"] for row in status["recovery"]["agents"]]) == (False, ["one"])
    assert (await api.http.delete("/v1/recovery", headers=admin.headers)).status_code == 409
    assert (await recover(api, agent.recovery_secret)).status_code == 403
    again = await api.http.post("/v1/recovery", json={"expires_in": 300}, headers=admin.headers)
    assert again.json()["recovery"]["agents"] == []
    assert (await recover(api, agent.recovery_secret)).status_code == 200
    assert await actions(api) == [
        ("recovery.opened", "ok"),
        ("agent.recovered", "ok"),
        ("agent.recovered", "ok"),
        ("agent.recovered", "refused"),
        ("recovery.closed", "ok"),
        ("recovery.opened", "ok"),
        ("agent.recovered", "ok"),
    ]


@pytest.mark.no_worker
async def test_revoked_and_disabled_agents_do_not_come_back(api):
    """The secret of an agent that logged out is unknown; that of a disabled agent is rejected. Only admins open."""
    admin, viewer = await api.operator(), await api.operator(Role.VIEWER)
    assert (await api.http.post("/v1/recovery", json={}, headers=viewer.headers)).status_code == 403
    assert (await api.http.post("/v1/recovery", json={}, headers=admin.headers)).status_code == 201
    left, disabled = await api.enrol("left"), await api.enrol("disabled")
    headers = {"Authorization": f"Bearer {left.refresh_token}"}
    assert (await api.http.post("/v1/agents/logout", json={}, headers=headers)).status_code == 200
    assert (await api.http.post(f"/v1/agents/{disabled.id}/disable", json={}, headers=admin.headers)).status_code == 200
    for agent in (left, disabled):
        assert (await recover(api, agent.recovery_secret)).status_code == 401
    status = (await api.http.get("/v1/recovery", headers=admin.headers)).json()
    assert status["without_secret"] == ["left"]


async def test_agents_come_back_after_a_restored_backup(postgres, settings, tmp_path, monkeypatch):
    """The agent waits for the recovery, and reports the commands that have run since the backup as what they were."""
    monkeypatch.setattr(agent_tokens, "RECOVERY_POLL_SECONDS", 1)
    settings = replace(settings, agent_access_token=4.0)
    ran = tmp_path / "ran"
    async with AsyncExitStack() as stack:
        async with running(settings) as api:
            link = await stack.enter_async_context(CuttableLink(api.url))
            operator = Operator(api, await api.operator())
            agent = await stack.enter_async_context(agent_running(api, tmp_path, server=link.url))
            commands = [
                await operator.send(agent.id, f"echo one >> {ran}; until test -e go; do sleep 0.05; done"),
                await operator.send(agent.id, f"echo two >> {ran}"),
                await operator.send(agent.id, f"echo three >> {ran}; exit 3"),
            ]
            await operator.until_state(commands[0], "running")
            await asyncio.to_thread(dump, postgres, settings.database_url, tmp_path / "dump")
            before = refresh_token(tmp_path)
            (tmp_path / "go").touch()
            assert (await operator.until_state(commands[2], *FINAL))["state"] == "failed"
            await until(lambda: rotated(tmp_path, before), "new tokens since the backup")
            link.sever()
        await asyncio.to_thread(restore, postgres, settings.database_url, tmp_path / "dump")
        async with running(settings) as api:
            account = await api.sign_in("admin@example.org")
            operator = Operator(api, account)
            assert [(await operator.read(command))["state"] for command in commands] == ["running", "queued", "queued"]
            link.lead_to(api.url)
            assert (await api.http.post("/v1/recovery", json={}, headers=account.headers)).status_code == 201
            ended = [await operator.until_state(command, *FINAL) for command in commands]
            assert [(row["state"], row["exit_code"]) for row in ended] == [
                ("succeeded", 0),
                ("succeeded", 0),
                ("failed", 3),
            ]
            after = await operator.send(agent.id, f"echo four >> {ran}")
            assert (await operator.until_state(after, *FINAL))["state"] == "succeeded"
            assert ran.read_text().split() == ["one", "two", "three", "four"]
            status = (await api.http.get("/v1/recovery", headers=account.headers)).json()
            assert [row["name"] for row in status["recovery"]["agents"]] == ["one"]
            await agent.stop()


def refresh_token(tmp_path) -> str:
    return store.load(tmp_path / "agents" / "one").refresh_token


async def rotated(tmp_path, before: str) -> bool:
    return refresh_token(tmp_path) != before
