"""`/v1/statistics`: the statistics for the dashboard."""

from __future__ import annotations

import jsonschema
import psycopg
import pytest
from support.agents import FINAL, Operator, agent_running, read_until, until
from support.frames import HELLO_TEXT, attach, next_message

from onsembl.protocol.states import Role


async def read(api, account) -> dict:
    response = await api.http.get("/v1/statistics", headers=account.headers)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_sees_them_as_the_document_says(api, role):
    """Every role reads the statistics, which fit the OpenAPI document; without an operator's token the answer is
    401."""
    account = await api.operator(role)
    statistics = await read(api, account)
    document = (await api.http.get("/openapi.json", headers=account.headers)).json()
    jsonschema.validate(statistics, {"$ref": "#/components/schemas/Statistics", "components": document["components"]})
    for name in ("relay", "loop_lag"):
        bounds, counts = statistics[name]["bounds"], statistics[name]["counts"]
        assert len(counts) == len(bounds) + 1
        assert bounds == sorted(bounds)
        assert counts == sorted(counts)
    assert [pool["name"] for pool in statistics["pools"]] == ["database"]
    assert (await api.http.get("/v1/statistics")).status_code == 401


async def test_they_tell_of_agents_terminals_and_commands(api, tmp_path):
    """The numbers follow the connections, the output and the commands."""
    account = await api.operator()
    operator = Operator(api, account)
    before = await read(api, account)
    assert (before["agents"], before["viewers"], before["terminal_bytes"], before["deliveries"]) == (0, 0, 0, 0)
    async with agent_running(api, tmp_path) as agent:
        async with api.terminal_socket(agent.id) as viewer:
            await attach(viewer, account.access_token)
            command = await operator.send(agent.id, "echo $((40 + 2)); exit 3")
            seen = await read_until(viewer, b"exit 3 \xc2\xb7")
            await operator.until_state(command, *FINAL)
            during = await read(api, account)
            assert (during["agents"], during["viewers"], during["commands_ended"]) == (1, 1, {"failed": 1})
            assert during["terminal_bytes"] >= len(seen)
            assert during["deliveries"] >= 1
            assert during["relay"]["counts"][-1] >= 1
            assert during["instances"] == before["instances"]
            assert during["at"] > before["at"]

        async def left() -> dict | None:
            statistics = await read(api, account)
            return statistics if statistics["viewers"] == 0 else None

        after = await until(left, "the viewer's end")
        assert after["deliveries"] >= during["deliveries"]


async def test_what_waits_is_told_by_priority(api):
    """The statistics have the depth of the queue and the age of its oldest command by priority, highest priority
    first."""
    account = await api.operator()
    agent = await api.enrol()
    for priority in (7, 3, 3):
        await Operator(api, account).send(agent.id, "true", priority=priority)
    commands = (await read(api, account))["commands"]
    assert (commands["queued"], commands["dispatched"], commands["running"]) == (3, 0, 0)
    assert [(line["priority"], line["depth"]) for line in commands["queue"]] == [(3, 2), (7, 1)]
    assert all(line["oldest"] > 0 for line in commands["queue"])


async def test_bytes_are_counted_once(api):
    """Bytes that an agent repeats are not counted; the bytes of another stream are added."""
    account = await api.operator()
    agent = await api.enrol()
    for length in (1000, 500):  # the second time without the first stream
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")
            for _ in range(2):
                await socket.send(bytes(8) + b"x" * length)
            await next_message(socket, "acknowledged")
    assert (await read(api, account))["terminal_bytes"] == 1500


async def test_without_the_database_the_rest_is_told(api, monkeypatch):
    """Without the database, only the statistics from the database are missing."""
    account = await api.operator()
    await read(api, account)

    async def fails(_: object) -> None:
        raise psycopg.OperationalError("it is away")

    monkeypatch.setattr("onsembl.sql.stats.unfinished", fails)
    statistics = await read(api, account)
    assert statistics["commands"] is None
    assert statistics["agents"] == 0
