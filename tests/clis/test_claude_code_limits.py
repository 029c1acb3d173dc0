"""Claude Code at the limit of its vendor: the model's endpoint answers 429."""

from __future__ import annotations

import pytest
from support.agents import FINAL, agent_running, until
from support.api_calls import call_api
from support.command_line import CommandLine

from onsembl.protocol.states import Role

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


async def test_a_turn_at_the_limit_waits_and_goes_on(api, admin, claude, tmp_path, monkeypatch):
    """The agent is limited, with a note; the turn is sent again when the agent is told to go on, and the note goes."""
    monkeypatch.setenv("CLAUDE_CODE_MAX_RETRIES", "0")  # Claude Code tries for three minutes by itself
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    async with agent_running(api, tmp_path, kind="claude") as agent:
        command = await admin.send(agent.id, "[fail: 429 1] [say: Done.]")

        async def noted():
            return (await call_api(admin, "GET", "/v1/attention?state=open"))["requests"]

        (note,) = await until(noted, "the note of the limit", 150)  # type: ignore[misc]
        assert note["kind"] == "limit" and note["body"]["until"] is not None
        row = await call_api(admin, "GET", f"/v1/agents/{agent.id}")
        assert (row["activity"]["name"], row["limited_until"] is not None) == ("limited", True)
        assert note["title"] in (await run("attention", "list"))[0]
        assert "limited" in (await run("agents", "list"))[0]
        assert (await admin.read(command))["state"] == "failed"
        (again,) = (await call_api(admin, "GET", f"/v1/agents/{agent.id}/queue"))["waiting"]
        again = await admin.read({"id": again["command_id"]})
        assert (again["continues"], again["state"]) == (command["id"], "queued")
        await call_api(admin, "POST", f"/v1/agents/{agent.id}/go-on")
        assert (await admin.until_state(again, *FINAL, seconds=150))["state"] == "succeeded"
        assert (await call_api(admin, "GET", f"/v1/attention/{note['id']}"))["state"] == "withdrawn"
