"""What an agent does, over REST, on the command line and in the metrics."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.agents import Operator, until
from support.api_calls import audit_entries, call_api
from support.asking_agents import running
from support.command_line import CommandLine

from onsembl.protocol.states import Role

pytestmark = pytest.mark.no_worker


async def scrape(api) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels."""
    text = (await api.http.get("/metrics")).text
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


async def test_an_agent_waits_works_and_leaves(api, tmp_path):
    """The agent's row has what it does, with its reason, the length of its queue and its last command; agents that wait
    are listed first; metrics count them, and the time to an answer."""
    account = await api.operator(Role.OPERATOR)
    operator, line = Operator(api, account), CommandLine(api, account, tmp_path)
    await api.enrol("before")
    async with running(api, operator) as agent:

        async def does(name: str) -> dict:
            async def reached():
                row = await call_api(operator, "GET", f"/v1/agents/{agent.agent.id}")
                return row if row["activity"]["name"] == name else None

            return await until(reached, f"it is {name}")

        working = await does("working")
        assert (working["activity"]["command_id"], working["silence"]) == (agent.command["id"], None)
        asked = await agent.ask()
        activity = (await does("waiting"))["activity"]
        assert (activity["reason"], activity["waiting"]) == ("npm test", 1)
        assert activity["attention_id"] == asked["request_id"] and activity["since"] is not None
        printed, _ = await line.run("agents", "list")
        assert [text.split()[0:3:2] for text in printed.splitlines() if not text.startswith(" ")] == [
            ["one", "waiting"],
            ["before", "offline"],
        ]
        printed, _ = await line.run("agents", "list", "--json")
        assert {row["name"]: row["activity"]["name"] for row in json.loads(printed)} == {
            "before": "offline",
            "one": "waiting",
        }
        seen = await scrape(api)
        assert (seen["onsembl_agents", "waiting"], seen["onsembl_agents", "offline"]) == (1, 1)
        assert seen["onsembl_agents", "working"] == 0
        assert (seen[("onsembl_requests_waiting",)], seen[("onsembl_request_oldest_seconds",)] > 0) == (1, True)
        body = {"digest": asked["digest"], "decision": {"decision": "allow"}}
        await call_api(operator, "POST", f"/v1/attention/{asked['request_id']}/answer", body)
        await does("working")
        seen = await scrape(api)
        assert (seen[("onsembl_requests_waiting",)], seen[("onsembl_request_oldest_seconds",)]) == (0, 0)
        assert seen["onsembl_answer_seconds_count", "permission"] == 1
        for text in ("make", "make test"):
            await call_api(operator, "POST", f"/v1/agents/{agent.agent.id}/commands", {"text": text}, 201)
        queued = await call_api(operator, "GET", f"/v1/agents/{agent.agent.id}")
        assert (queued["queued"], queued["last_command"]) == (2, None)
        await call_api(operator, "POST", f"/v1/agents/{agent.agent.id}/pause")
        await agent.end()
        await does("paused")
        [_, row] = (await call_api(operator, "GET", "/v1/agents"))["agents"]
        assert (row["queued"], row["last_command"]["id"]) == (2, agent.command["id"])
        assert row["last_command"]["text"] == agent.command["text"] and row["last_command"]["ended_at"] is not None
    await does("offline")


async def test_an_agent_is_renamed_and_deleted(api, tmp_path):
    """A new name is the agent's everywhere, schedules included, and no other agent's; an offline agent is deleted
    with its commands, also one that it was running, and its tokens end. What is kept is kept."""
    account = await api.operator()
    operator, line = Operator(api, account), CommandLine(api, account, tmp_path)
    await api.enrol("other")
    schedule = {"name": "nightly", "target": {"agents": ["one", "other"]}, "text": "ls", "cron": "0 6 * * *"}
    async with running(api, operator) as agent:
        path = f"/v1/agents/{agent.agent.id}"
        made = await call_api(operator, "POST", "/v1/schedules", schedule, 201)
        taken = await call_api(operator, "PUT", f"{path}/name", {"name": "other"}, 409)
        assert taken["detail"] == "Another agent has the name other."
        printed, _ = await line.run("agents", "rename", "one", "two")
        assert printed == "one is two.\n"
        assert (await call_api(operator, "PUT", f"{path}/name", {"name": "two"}))["name"] == "two"
        kept = await call_api(operator, "GET", f"/v1/schedules/{made['id']}")
        assert kept["target"] == {"agents": ["two", "other"]}
        online = await call_api(operator, "DELETE", path, status=409)
        assert online["detail"] == "The agent is online. Stop or disable it, then delete it."

    async def offline():
        row = await call_api(operator, "GET", path)
        return row["status"] == "offline"

    await until(offline, "it is offline")
    printed, _ = await line.run("agents", "delete", "two", "--yes")
    assert printed == "two is deleted.\n"
    await call_api(operator, "GET", path, status=404)
    await call_api(operator, "DELETE", path, status=404)
    await call_api(operator, "GET", f"/v1/commands/{agent.command['id']}", status=404)
    headers = {"Authorization": f"Bearer {agent.agent.refresh_token}"}
    assert (await api.http.post("/v1/agents/token", headers=headers)).status_code == 401
    assert [detail["name"] for _, detail in await audit_entries(api, "agent.renamed")] == [["one", "two"]]
    assert [detail["name"] for _, detail in await audit_entries(api, "agent.deleted")] == ["two"]
