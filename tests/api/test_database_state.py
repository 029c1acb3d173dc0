"""A database that becomes read-only, as Supabase makes the project whose disk is full, or goes away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.agents import FINAL, Operator, agent_running, until
from support.server import running

from onsembl.api import database_state
from onsembl.api.http.problems import READ_ONLY_PROBLEM

READS = (
    "/v1/me",
    "/v1/agents",
    "/v1/commands",
    "/v1/audit",
    "/v1/alerts",
    "/v1/statistics",
    "/v1/schedules",
    "/v1/presets",
    "/v1/halt",
)


def make_read_only(url: str, on: bool) -> None:
    """Switch the database, and end its sessions."""
    name = conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set default_transaction_read_only = off")
        conn.execute(f"alter database {name} set default_transaction_read_only = {str(on).lower()}".encode())
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and backend_type = 'client backend'"
        )


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_state, "LOOK_SECONDS", 0.1)


async def test_reads_go_on_while_the_database_is_read_only(api, tmp_path):
    """Under load, reads work and each change is 503 with the reason; afterwards changes work, the agent is still there,
    and every command that was accepted has run."""
    account = await api.operator()
    operator = Operator(api, account)
    async with agent_running(api, tmp_path) as agent:
        path = f"/v1/agents/{agent.id}/commands"
        stop, statuses, accepted = asyncio.Event(), list[int](), list[dict]()

        async def load() -> None:
            while not stop.is_set():
                answer = await api.http.post(path, json={"text": "true"}, headers=account.headers)
                statuses.append(answer.status_code)
                if answer.status_code == 201:
                    accepted.append(answer.json())
                await asyncio.sleep(0.01)

        async def me_is(read_only: bool) -> bool:
            answer = await api.http.get("/v1/me", headers=account.headers)
            return answer.status_code == 200 and answer.json()["read_only"] is read_only

        loads = [asyncio.create_task(load()) for _ in range(3)]
        await until(lambda: asyncio.sleep(0, len(accepted) > 3), "accepted commands")
        await asyncio.to_thread(make_read_only, api.database_url, True)
        await until(lambda: me_is(True), "the read-only database")
        api.services.forget()  # as if no operator had been seen
        for read in READS:
            answer = await api.http.get(read, headers=account.headers)
            assert answer.status_code == 200, (read, answer.text)
        refused = await api.http.post(path, json={"text": "true"}, headers=account.headers)
        assert (refused.status_code, refused.json()["type"]) == (503, READ_ONLY_PROBLEM)
        assert "read-only" in refused.json()["detail"]
        before = len(accepted)
        await asyncio.to_thread(make_read_only, api.database_url, False)
        await until(lambda: me_is(False), "the end of it")
        await until(lambda: asyncio.sleep(0, len(accepted) > before), "accepted commands")
        stop.set()
        await asyncio.gather(*loads)
        assert set(statuses) <= {201, 503}
        for command in accepted:
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"


async def test_a_database_that_is_nearly_full_is_an_alert(api):
    """The alert comes once, although it is acknowledged; the statistics have the size and the limit."""
    account = await api.operator()
    api.services.database.limit = 1_000_000

    async def alerts() -> list[dict]:
        answer = (await api.http.get("/v1/alerts", headers=account.headers)).json()["alerts"]
        return [alert for alert in answer if alert["kind"] == "database_nearly_full"]

    alert = (await until(alerts, "the alert"))[0]
    assert "of 1 MB" in alert["text"] and "ONSEMBL_DATABASE_LIMIT_MB" in alert["text"]
    await api.http.post(f"/v1/alerts/{alert['id']}/acknowledge", headers=account.headers)
    await api.services.database.look()
    assert len(await alerts()) == 1
    statistics = (await api.http.get("/v1/statistics", headers=account.headers)).json()["database"]
    assert statistics["size"] > 0.8 * statistics["limit"] and not statistics["read_only"]


@pytest.mark.no_worker
async def test_an_instance_whose_database_is_gone_stops_soon(own_postgres, settings, caplog):
    """It gives the database two seconds to remove it, and not as long as a request waits for a connection."""
    async with running(replace(settings, database_url=own_postgres.url())) as api:
        await asyncio.to_thread(own_postgres.stop)
        await api.services.pool.check()  # else it fails at once over a connection that has ended
    [record] = [record for record in caplog.records if getattr(record, "action", None) == "deregistration_failed"]
    assert "no answer in time" in record.getMessage()
