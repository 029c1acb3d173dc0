"""Reports of Claude Code, which holds its answer to the schema."""

from __future__ import annotations

import json

import pytest
from protocol.test_reports import REPORT
from support.agents import FINAL, agent_running, until
from support.api_calls import call_api

from onsembl.agent.mcp.gateway import server_name

pytestmark = pytest.mark.clis


async def test_an_investigation_ends_as_a_report(api, admin, claude, tmp_path):
    """The CLI refuses an answer that does not fit and takes the next one; a turn whose model never gives one has its
    answer as prose. Both go on in one conversation: they are versions."""
    preset = {"template": "{{what}}", "variables": [{"name": "what", "type": "long_text"}], "report": True}
    await call_api(admin, "PUT", "/v1/presets/ask", preset)
    wrong, right = json.dumps({"title": "no more"}), json.dumps(REPORT)
    async with agent_running(api, tmp_path, kind="claude") as agent:
        for what in (f"[call: StructuredOutput {wrong}] [call: StructuredOutput {right}]", "[say: Only prose.]"):
            body = {"preset": "ask", "values": {"what": what}, "conversation": "latest"}
            command = await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", body, 201)
            ended = await admin.until_state(command, *FINAL)
            assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)

        async def both():
            listed = (await call_api(admin, "GET", "/v1/reports"))["reports"]
            return listed if len(listed) == 2 else None

        prose, report = await until(both, "both reports")
        assert (report["version"], report["superseded"], report["problem"]) == (1, True, None)
        whole = await call_api(admin, "GET", f"/v1/reports/{report['id']}")
        assert whole["report"]["findings"][0]["title"] == REPORT["findings"][0]["title"]
        assert (prose["version"], prose["title"], prose["problem"]) == (2, "Only prose.", None)


async def test_a_report_is_submitted_while_the_turn_runs(api, admin, claude, tmp_path):
    """The CLI is told what is wrong with one that does not fit; the next one is the report of the turn. Nobody is asked
    for permission."""
    wrong, right = json.dumps({"title": "no more"}), json.dumps(REPORT)
    tool = f"mcp__{server_name(tmp_path / 'agents' / 'one')}__submit_report"
    async with agent_running(api, tmp_path, kind="claude") as agent:
        what = f"[call: {tool} {wrong}] [call: {tool} {right}] [say: It is submitted.]"
        ended = await admin.until_state(await admin.send(agent.id, what), *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)

        async def complete():
            listed = (await call_api(admin, "GET", "/v1/reports"))["reports"]
            return [row for row in listed if not row["draft"]]

        [report] = await until(complete, "the report")
        assert (report["title"], report["problem"], report["preset"]) == (REPORT["title"], None, None)
        steps = (await call_api(admin, "GET", f"/v1/commands/{report['command_id']}/steps"))["steps"]
        submitted = [step for step in steps if step["kind"] == "tool"]
        assert [(step["status"], "does not fit" in step["result"]) for step in submitted] == [
            ("failed", True),
            ("completed", False),
        ]
