"""The emergency stop of a fleet whose process trees ignore signals and have escaped parts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from support.server import Api

BENCH = Path(__file__).resolve().parents[2] / "loadtests" / "halt_bench.py"


@pytest.mark.parametrize(
    "agents",
    [
        pytest.param(6, marks=pytest.mark.seconds(6)),
        pytest.param(100, marks=[pytest.mark.soak, pytest.mark.seconds(60), pytest.mark.timeout(400)]),
    ],
)
async def test_all_agents_are_stopped_and_nothing_is_alive(api: Api, agents: int) -> None:
    """The stop leaves no process of any agent alive, as counted in /proc."""
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
