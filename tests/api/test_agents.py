"""What an agent does, over REST, on the command line and in the metrics."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.agents import Operator, until
from support.api_calls import call_api
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
    """The agent's row has what it does, with its reason; agents that wait are listed first; metrics count them, and the
    time to an answer."""
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
        await agent.end()
        await does("idle")
    await does("offline")
