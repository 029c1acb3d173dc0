"""A control center on a small hosted project, whose login may open 15 connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from support.agents import agent_at
from support.control_center import ControlCenter
from support.forked import fork_onsembl
from support.pgbouncer import pgbouncer
from support.supabase_project import CONNECTIONS, SupabaseProject, supabase_project
from support.transaction_pooler import transaction_pooler

from onsembl.sql.database import connect

PASSWORD = "good password"


async def add_admin(project: SupabaseProject, email: str = "a@example.org") -> None:
    """Add an operator to the project."""
    arguments = ("operator", "add", email, "--role", "admin")
    added = await asyncio.to_thread(project.onsembl, *arguments, ONSEMBL_OPERATOR_PASSWORD=PASSWORD)
    assert added.returncode == 0, added.stderr


@asynccontextmanager
async def signed_in(
    project: SupabaseProject, center: ControlCenter, email: str = "a@example.org"
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the control center, with the access token of an operator of the project."""
    async with httpx.AsyncClient(base_url=center.address, timeout=60, verify=False) as http:
        answer = await http.post(
            f"{project.environment['SUPABASE_URL']}/auth/v1/token?grant_type=password",
            json={"email": email, "password": PASSWORD},
            headers={"apikey": project.environment["SUPABASE_PUBLISHABLE_KEY"]},
        )
        http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"
        yield http


async def succeeded(http: httpx.AsyncClient, command_id: str) -> None:
    """Wait until the command has succeeded."""
    async with asyncio.timeout(60):
        while (command := (await http.get(f"/v1/commands/{command_id}")).json())["state"] != "succeeded":
            assert command["state"] in ("queued", "dispatched", "running"), command
            await asyncio.sleep(0.05)


async def demo_agent(http: httpx.AsyncClient) -> str:
    """The id of the demo agent, when it is online."""
    async with asyncio.timeout(60):
        while True:
            agents = (await http.get("/v1/agents")).json()["agents"]
            if agents and agents[0]["status"] == "online":
                return agents[0]["id"]
            await asyncio.sleep(0.05)


@pytest.mark.seconds(6)
@pytest.mark.parametrize("rounds", [pytest.param(2, id="short"), pytest.param(12, marks=pytest.mark.load, id="long")])
async def test_up_a_worker_and_a_check_fit_into_a_small_project(postgres, tmp_path, rounds: int):
    """Under load, `up`, a worker and a check open at most 15 connections, and each does its work."""
    with supabase_project(postgres) as project:
        most = 0

        async def watch() -> None:
            nonlocal most
            async with await connect(project.superuser, autocommit=True) as conn:
                while True:
                    cursor = await conn.execute(
                        "select count(*) from pg_stat_activity where usename = %s", [project.login]
                    )
                    most = max(most, (await cursor.fetchall())[0]["count"])
                    await asyncio.sleep(0.02)

        with ControlCenter(tmp_path / "data", environment=project.environment) as center:
            await asyncio.to_thread(center.ready)
            worker = await fork_onsembl("worker", env=project.environment)
            watching = asyncio.create_task(watch())
            try:
                await add_admin(project)
                async with (
                    signed_in(project, center) as http,
                    agent_at(center.address, project.superuser, tmp_path) as agent,
                ):

                    async def load() -> None:
                        for _ in range(rounds):
                            (await http.get("/v1/agents")).raise_for_status()
                            (await http.get("/v1/audit")).raise_for_status()

                    async with await connect(project.superuser) as conn:
                        # Each request that reads the audit log keeps its connection until all are open: one is opened
                        # whenever a request has waited for 0.1 s.
                        await conn.execute("lock table onsembl.audit in access exclusive mode")
                        loads = [asyncio.create_task(load()) for _ in range(20)]
                        async with asyncio.timeout(60):
                            while most <= 8:
                                await asyncio.sleep(0.02)
                            before = 0
                            while most > before:
                                before = most
                                await asyncio.sleep(1)
                    check = await asyncio.to_thread(project.onsembl, "supabase", "check", "--json")
                    assert [finding for finding in json.loads(check.stdout) if not finding["ok"]] == []
                    answer = await http.post(f"/v1/agents/{agent.id}/commands", json={"text": "true"})
                    await succeeded(http, answer.raise_for_status().json()["id"])
                    await asyncio.gather(*loads)
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
                worker.terminate()
                assert await worker.wait() == 0
                await asyncio.to_thread(center.stop)
        assert most <= CONNECTIONS


@pytest.mark.seconds(7)
async def test_statements_go_through_a_transaction_pooler(postgres, tmp_path):
    """With a pooler in transaction mode, only the connection that listens is a session of the process; a command runs
    as ever, and nothing is left behind in the pooler's sessions."""
    with supabase_project(postgres) as project:
        assert project.onsembl("supabase", "setup").returncode == 0
        async with transaction_pooler(project.owner) as (pooler, url):
            environment = {**project.environment, "DATABASE_POOLER_URL": url}
            with ControlCenter(tmp_path / "data", "--demo", environment=environment) as center:
                await asyncio.to_thread(center.ready)
                try:
                    await add_admin(project)
                    async with signed_in(project, center) as http:
                        agent = await demo_agent(http)
                        answer = await http.post(f"/v1/agents/{agent}/commands", json={"text": "echo through"})
                        await succeeded(http, answer.raise_for_status().json()["id"])
                        count = f"select count(*) from pg_stat_activity where usename = '{project.login}'"
                        sessions = await asyncio.to_thread(project.execute, count)
                        assert sessions[0]["count"] == len(pooler.sessions) + 1
                        assert pooler.transactions > 20
                finally:
                    await asyncio.to_thread(center.stop)


@pytest.mark.package
async def test_statements_go_through_pgbouncer(postgres, tmp_path):
    """`up` and a worker run commands through PgBouncer in transaction mode, whose five sessions and the two connections
    that listen are all that they open; a check passes beside them."""
    sessions = 5
    with supabase_project(postgres) as project, pgbouncer(project.owner, sessions) as url:
        assert project.onsembl("supabase", "setup").returncode == 0
        environment = {**project.environment, "DATABASE_POOLER_URL": url}
        with ControlCenter(tmp_path / "data", "--demo", "--no-worker", environment=environment) as center:
            await asyncio.to_thread(center.ready)
            worker = await fork_onsembl("worker", env=environment)
            try:
                await add_admin(project)
                async with signed_in(project, center) as http:
                    agent = await demo_agent(http)
                    for text in ("echo one", "echo two"):
                        answer = await http.post(f"/v1/agents/{agent}/commands", json={"text": text})
                        await succeeded(http, answer.raise_for_status().json()["id"])
                    await asyncio.gather(*[http.get("/v1/audit") for _ in range(100)])
                    count = f"select count(*) from pg_stat_activity where usename = '{project.login}'"
                    opened = (await asyncio.to_thread(project.execute, count))[0]["count"]
                    assert 2 < opened <= sessions + 2
                check = await asyncio.to_thread(project.onsembl, "supabase", "check", "--json")
                assert [finding for finding in json.loads(check.stdout) if not finding["ok"]] == []
            finally:
                worker.terminate()
                assert await worker.wait() == 0
                await asyncio.to_thread(center.stop)
