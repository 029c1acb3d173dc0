"""Agents that are started on a host: by `onsembl agent host`, in processes of their own, and at the REST API."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.agents import until
from support.forked import ForkedProcess, fork_onsembl
from support.hosts import SimulatedHost
from support.server import Account, Api

from onsembl.api.routes import hosts as host_routes
from onsembl.protocol.states import Role
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


async def start(api: Api, account: Account, host_id: str, **body: str) -> httpx.Response:
    request = {"name": "begun", "kind": "shell", "folder": "/work", **body}
    return await api.http.post(f"/v1/hosts/{host_id}/agents", json=request, headers=account.headers)


async def audited(api: Api) -> list[str]:
    """The audit log's actions about hosts, in order."""
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute("select action from audit where action like 'host.%' order by id")
        return [row["action"] for row in await cursor.fetchall()]


@pytest.fixture
async def admin(api: Api) -> Account:
    return await api.operator()


class RealHost:
    """`onsembl agent host` in a process of its own, with its state folder and the folder that it allows."""

    def __init__(self, api: Api, admin: Account, tmp_path: Path) -> None:
        self._api, self._admin = api, admin
        self.state_dir, self.allowed = tmp_path / "agents", tmp_path / "allowed"
        (self.allowed / "project").mkdir(parents=True)
        self.processes: list[ForkedProcess] = []

    async def run(self, *options: str) -> ForkedProcess:
        """Start it, and wait until it is connected under a new epoch."""
        before = await self.row()
        epoch = 0 if before is None else await self.epoch()
        environment = {**os.environ, "ONSEMBL_KEYRING": "off", "ONSEMBL_ENROLMENT_TOKEN": ""}
        if before is None:
            environment["ONSEMBL_ENROLMENT_TOKEN"] = await self._api.enrolment_token()
        process = await fork_onsembl(
            *("agent", "host", "--server", self._api.url, "--name", "machine", "--allow", "shell,claude", "--max", "1"),
            *("--folder", str(self.allowed), "--state-dir", str(self.state_dir), *options),
            env=environment,
        )
        self.processes.append(process)

        async def connected() -> bool:
            assert process.returncode is None
            return await self.row() is not None and await self.epoch() > epoch

        await until(connected, "the host is connected")
        return process

    async def row(self) -> dict[str, Any] | None:
        """What the server shows of it."""
        answer = await self._api.http.get("/v1/hosts", headers=self._admin.headers)
        return next(iter(answer.json()["hosts"]), None)

    async def epoch(self) -> int:
        async with await connect(self._api.database_url) as conn:
            row = await (await conn.execute("select epoch from hosts")).fetchone()
            assert row is not None
            return row["epoch"]

    def agents(self) -> list[int]:
        """The pids of its agents' programs."""
        found: list[int] = []
        for process in psutil.process_iter(["cmdline"]):
            arguments = process.info["cmdline"] or []
            if "run" in arguments and str(self.state_dir) in arguments:
                found.append(process.pid)
        return found


@pytest.fixture
async def host(api: Api, admin: Account, tmp_path: Path) -> AsyncGenerator[RealHost]:
    real = RealHost(api, admin, tmp_path)
    yield real
    for process in real.processes:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    for pid in real.agents():
        psutil.Process(pid).kill()


async def is_online(api: Api, admin: Account, agent_id: str) -> bool:
    answer = await api.http.get(f"/v1/agents/{agent_id}", headers=admin.headers)
    return answer.json()["status"] == "online"


async def test_an_admin_starts_an_agent_where_its_owner_allows_it(api, admin, host: RealHost, tmp_path: Path):
    """In an allowed folder and of an allowed kind, as many as the owner allows; the host refuses anything else, and
    neither the answer nor the row has a credential. An agent that is stopped makes room."""
    await host.run()
    row = await host.row()
    assert (row["kinds"], row["folders"], row["max_agents"]) == (["shell", "claude"], [str(host.allowed)], 1)
    (host.allowed / "out").symlink_to(tmp_path)
    (host.allowed / "file").touch()
    for body, reason in (
        ({"kind": "codex"}, "Its owner allows shell, claude, not codex"),
        ({"folder": str(tmp_path)}, "Its owner allows folders below"),
        ({"folder": f"{host.allowed}/../agents"}, "Its owner allows folders below"),
        ({"folder": f"{host.allowed}/out"}, "a part of its path is a link or no folder"),
        ({"folder": f"{host.allowed}/file"}, "a part of its path is a link or no folder"),
        ({"folder": f"{host.allowed}/nothing"}, "No such file or directory"),
    ):
        refused = await start(api, admin, row["id"], **{"folder": str(host.allowed), **body})
        assert refused.status_code == 403
        assert reason in refused.json()["detail"]
    assert host.agents() == []
    folder = str(host.allowed / "project")
    answer = await start(api, admin, row["id"], folder=folder)
    assert answer.status_code == 201, answer.text
    begun = answer.json()
    assert set(begun) == {"id", "agent_id", "host", "name", "kind", "folder"}
    await until(lambda: is_online(api, admin, begun["agent_id"]), "the agent is online")
    agent = (await api.http.get(f"/v1/agents/{begun['agent_id']}", headers=admin.headers)).json()
    assert (agent["name"], agent["kind"], agent["folder"]) == ("begun", "shell", folder)
    taken = await start(api, admin, row["id"], folder=folder)
    assert (taken.status_code, taken.json()["detail"]) == (409, "There is already an agent named 'begun'.")
    full = await start(api, admin, row["id"], name="second", folder=folder)
    assert (full.status_code, full.json()["detail"]) == (
        403,
        "machine refuses: It runs 1 agents, and its owner allows 1.",
    )
    await api.http.post(f"/v1/agents/{begun['agent_id']}/stop", json={}, headers=admin.headers)

    async def ended() -> bool:
        return "host.agent_ended" in await audited(api)

    await until(ended, "the host has reported the end")
    assert host.agents() == []
    refusals = ["host.start_requested", "host.start_refused"]
    assert await audited(api) == [
        *("host.enrolled", "host.connected", *refusals * 6),
        *("host.start_requested", "host.agent_enrolled", "host.agent_started", *refusals, "host.agent_ended"),
    ]


async def test_a_host_that_starts_again_runs_its_agents_once(api, admin, host: RealHost):
    """One that still runs, because the host was killed, is found; one that was stopped with the host is started again.
    Without the record of its process, it would be started twice."""
    process = await host.run()
    row = await host.row()
    begun = (await start(api, admin, row["id"], folder=str(host.allowed))).json()
    await until(lambda: is_online(api, admin, begun["agent_id"]), "the agent is online")
    [pid] = host.agents()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    process = await host.run()

    async def counted() -> bool:
        return (await host.row())["running"] == 1

    await until(counted, "the host has found its agent")
    assert host.agents() == [pid]
    process.terminate()
    assert await process.wait() == 0
    assert host.agents() == []
    assert not (await host.row())["connected"]
    away = await start(api, admin, row["id"], name="second")
    assert (away.status_code, away.json()["detail"]) == (409, "The host machine is not connected.")
    await host.run()

    async def back() -> bool:
        return await is_online(api, admin, begun["agent_id"])

    await until(back, "the agent is online again")
    assert len(host.agents()) == 1


async def test_a_deleted_host_ends_with_its_agents(api, admin, host: RealHost):
    """Its secret is rejected, and its program exits."""
    process = await host.run()
    deleted = await api.http.delete(f"/v1/hosts/{(await host.row())['id']}", headers=admin.headers)
    assert deleted.status_code == 200
    assert await process.wait() == 1
    assert await host.row() is None


async def test_only_admins_start_agents(api):
    """A new agent is without the limits that an admin has set for others: viewers and operators start none."""
    host = await (await SimulatedHost.enrolled(api)).connect()
    for role in (Role.VIEWER, Role.OPERATOR):
        account = await api.operator(role)
        assert (await start(api, account, host.id)).status_code == 403
        assert (await api.http.get("/v1/hosts", headers=account.headers)).status_code == 403
    assert "host.start_requested" not in await audited(api)


async def test_a_stopped_fleet_starts_no_agent(api, admin):
    """Neither a new request, nor one that was made before the emergency stop began."""
    host = await (await SimulatedHost.enrolled(api)).connect()
    asked = asyncio.create_task(start(api, admin, host.id))
    requested = await host.next_start()
    assert (await api.http.post("/v1/halt", json={}, headers=admin.headers)).is_success
    enrolled = await host.enrol(requested["id"])
    assert (enrolled.status_code, "emergency stop" in enrolled.json()["detail"]) == (409, True)
    await host.report(requested["id"], "refused", enrolled.json()["detail"])
    assert (await asked).status_code == 403
    refused = await start(api, admin, host.id, name="second")
    assert (refused.status_code, "emergency stop" in refused.json()["detail"]) == (409, True)


async def test_an_earlier_run_of_a_host_is_over(api, admin):
    """After a host has connected again, its earlier run gets no request, no credentials, and reports nothing."""
    earlier = await (await SimulatedHost.enrolled(api)).connect()
    asked = asyncio.create_task(start(api, admin, earlier.id))
    requested = await earlier.next_start()
    held = asyncio.create_task(earlier.poll())
    later = await SimulatedHost(api, earlier.id, earlier.secret).connect()
    for answer in (
        await held,
        await earlier.poll(),
        await earlier.enrol(requested["id"]),
        await earlier.report(requested["id"], "refused"),
    ):
        # A poll that began before has the request, which it cannot use.
        assert answer.status_code == 409 or answer.json() == {"starts": [requested]}
        assert answer.status_code == 200 or answer.json()["type"] == "urn:onsembl:problem:host-superseded"
    assert (await later.next_start())["id"] == requested["id"]
    await later.report(requested["id"], "refused", "no")
    assert (await asked).json()["detail"] == "machine refuses: no"


async def test_an_enrolment_whose_answer_was_lost_is_answered_again(api, admin):
    """With new credentials, while the former ones end; and no more once the agent is started."""
    host = await (await SimulatedHost.enrolled(api)).connect()
    asked = asyncio.create_task(start(api, admin, host.id))
    requested = await host.next_start()
    first, second = [(await host.enrol(requested["id"])).json() for _ in range(2)]
    assert first["agent_id"] == second["agent_id"]
    for credentials, status in ((first, 401), (second, 200)):
        headers = {"Authorization": f"Bearer {credentials['refresh_token']}"}
        assert (await api.http.post("/v1/agents/token", json={}, headers=headers)).status_code == status
    await host.report(requested["id"], "started")
    assert (await asked).json()["agent_id"] == first["agent_id"]
    assert (await host.enrol(requested["id"])).status_code == 409
    other = await (await SimulatedHost.enrolled(api, "other")).connect()
    assert (await other.enrol(requested["id"])).status_code == 409


async def test_a_request_that_no_host_takes_is_over(api, admin, monkeypatch):
    """The operator is told, and a host that comes to it later enrols nothing."""
    monkeypatch.setattr(host_routes, "START_SECONDS", 0.1)
    host = await (await SimulatedHost.enrolled(api)).connect()
    answer = await start(api, admin, host.id)
    assert (answer.status_code, answer.json()["detail"]) == (
        504,
        "machine did not answer in time. Nothing was started.",
    )
    async with await connect(api.database_url) as conn:
        row = await (await conn.execute("select id from agent_starts")).fetchone()
    assert (await host.enrol(row["id"])).status_code == 409
    assert (await host.poll(leaving=True)).json() == {"starts": []}
