"""Reports: from the answer of an agent to the REST API, the command line, and the next prompt."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from protocol.test_reports import REPORT
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import audit_entries, call_api
from support.claude import put_claude_on_path
from support.command_line import CommandLine
from support.frames import HELLO, next_message
from support.reports import new_command
from support.server import Api

from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import reports
from onsembl.sql.database import connect

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANSWERS = [json.dumps(REPORT), "# It is the clock\n\nNothing else.", '{"findings": "none", "title": "Broken"}']


@pytest.fixture
async def operator(api: Api) -> Operator:
    return Operator(api, await api.operator(Role.OPERATOR))


async def investigate(api: Api, operator: Operator, name: str, *answers: str) -> list[dict]:
    """Run a turn of Investigate for each answer in one conversation of a new agent; return the offers."""
    agent = await api.enrol(name, "claude")
    offers = []
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude"}))
        for answer in answers:
            values = {"what": "it is slow"}
            body = {"preset": "Investigate", "values": values, "conversation": "latest"}
            await call_api(operator, "POST", f"/v1/agents/{agent.id}/commands", body, 201)
            offers.append(offer := await next_message(socket, "offer"))
            step = {
                "number": 1,
                "revision": 1,
                "kind": "message",
                "name": "report",
                "status": "completed",
                "text": answer,
                "started_at": NOW.isoformat(),
                "output_start": 0,
                "output_end": 0,
            }
            command_id = offer["command_id"]
            for _ in range(2):  # it may come again
                steps = {"type": "steps", "command_id": command_id, "through": 1, "steps": [step]}
                await socket.send(json.dumps(steps))
                await next_message(socket, "steps_recorded")
            end = {"type": "ended", "command_id": command_id, "outcome": "succeeded"}
            await socket.send(json.dumps({**end, "ended_at": NOW.isoformat()}))
            await next_message(socket, "end_recorded")
    return offers


@pytest.mark.no_worker
async def test_answers_become_versions_of_a_report(api, operator, tmp_path):
    """A preset that asks for a report asks the CLI for one; each answer of the conversation is the next version, be it
    a report, prose, or one that does not fit. They are filtered, exported and pinned, and the log has it."""
    offers = await investigate(api, operator, "one", *ANSWERS)
    await investigate(api, operator, "two", ANSWERS[0])
    assert [offer["turn"]["report"] for offer in offers] == [True] * 3
    listed = (await call_api(operator, "GET", "/v1/reports"))["reports"]
    assert [(row["title"], row["version"], row["superseded"], row["problem"] is None) for row in listed] == [
        (REPORT["title"], 1, False, True),
        (ANSWERS[2], 3, False, False),
        ("It is the clock", 2, True, True),
        (REPORT["title"], 1, True, True),
    ]
    assert listed[3]["severities"] == {"high": 1} and listed[3]["preset"] == "Investigate"
    for query, titles in (
        ("superseded=false", [REPORT["title"], ANSWERS[2]]),
        ("q=CLOCK", ["It is the clock"]),
        ("q=%25", []),
        ("preset=investigate&limit=1", [REPORT["title"]]),
        (f"agent_id={listed[3]['agent_id']}&superseded=true", ["It is the clock", REPORT["title"]]),
        (f"conversation_id={listed[0]['conversation_id']}", [REPORT["title"]]),
        (f"command_id={listed[1]['command_id']}", [ANSWERS[2]]),
        ("pinned=true", []),
    ):
        page = await call_api(operator, "GET", f"/v1/reports?{query}")
        assert [row["title"] for row in page["reports"]] == titles, query
    whole = await call_api(operator, "GET", f"/v1/reports/{listed[3]['id']}")
    assert whole["report"]["findings"][0]["evidence"][0]["line"] == 12
    assert (await call_api(operator, "GET", f"/v1/reports/{listed[1]['id']}"))["text"] == ANSWERS[2]

    viewer = Operator(api, await api.operator(Role.VIEWER))
    await call_api(viewer, "PUT", f"/v1/reports/{listed[3]['id']}/pin", None, 403)
    for _ in range(2):
        pinned = await call_api(operator, "PUT", f"/v1/reports/{listed[3]['id']}/pin")
    assert pinned["pinned_by_name"] == "operator@example.org"
    command_line = CommandLine(api, await api.operator(Role.VIEWER), tmp_path)
    run = command_line.run
    out, _ = await run("reports", "list")
    assert [line.split()[0] for line in out.splitlines()] == [listed[0]["id"], listed[1]["id"]]
    out, _ = await run("reports", "show", listed[3]["id"])
    assert "high  No entry is ever removed" in out and "src/cache.py:12" in out
    out, _ = await run("reports", "show", listed[1]["id"])
    assert "does not fit" in out and ANSWERS[2] in out
    file = tmp_path / "report.html"
    await run("reports", "export", listed[3]["id"], "--format", "html", "-o", str(file))
    assert "<h1>The cache is never cleared</h1>" in file.read_text() and "by one" in file.read_text()
    [(_, exported)] = await audit_entries(api, "report.exported")
    assert exported == {"format": "html", "version": 1}

    async with await connect(api.database_url, role="onsembl_api") as conn:
        await conn.execute("update reports set created_at = now() - interval '40 days'")
        await reports.forget(conn, 30)
        await conn.commit()
    assert [row["id"] for row in (await call_api(viewer, "GET", "/v1/reports"))["reports"]] == [listed[3]["id"]]
    await call_api(operator, "DELETE", f"/v1/reports/{listed[3]['id']}/pin")
    assert [action for action, _ in await audit_entries(api, "report.%")] == [
        "report.pinned",
        "report.pinned",
        "report.exported",
        "report.unpinned",
    ]


@pytest.mark.no_worker
async def test_a_draft_supersedes_nothing_until_it_is_complete(api, operator, tmp_path):
    """It is listed beside the report before it; no draft replaces a complete report, and a cut turn leaves a draft."""
    await investigate(api, operator, "one", ANSWERS[0])
    [first] = (await call_api(operator, "GET", "/v1/reports"))["reports"]
    agent_id = AgentId(UUID(first["agent_id"]))
    command_id = await new_command(api, first["agent_id"], first["conversation_id"])

    async def write(title: str, *, draft: bool) -> list[tuple[str, bool, bool]]:
        async with await connect(api.database_url, role="onsembl_api") as conn:
            text = json.dumps({**REPORT, "title": title})
            await reports.write(conn, agent_id, command_id, text, 0, draft=draft)
        listed = (await call_api(operator, "GET", "/v1/reports"))["reports"]
        return [(row["title"], row["draft"], row["superseded"]) for row in listed]

    old = REPORT["title"]
    assert await write("begun", draft=True) == [("begun", True, False), (old, False, False)]
    command_line = CommandLine(api, await api.operator(Role.VIEWER), tmp_path)
    out, _ = await command_line.run("reports", "list")
    assert "v2 draft" in out and first["id"] in out
    assert await write("more", draft=True) == [("more", True, False), (old, False, False)]
    assert await write("whole", draft=False) == [("whole", False, False), (old, False, True)]
    assert await write("late", draft=True) == [("whole", False, False), (old, False, True)]


@pytest.mark.no_worker
async def test_reports_are_the_sources_of_a_synthesis(api, operator):
    """A value that names reports becomes their text; reports that do not exist are named."""
    await investigate(api, operator, "one", ANSWERS[0])
    await investigate(api, operator, "two", ANSWERS[1])
    ids = [row["id"] for row in (await call_api(operator, "GET", "/v1/reports"))["reports"]]
    agent = await api.enrol("three", "claude")
    path = f"/v1/agents/{agent.id}/commands"
    body = {"preset": "Synthesize", "values": {"reports": " ".join(ids)}}
    text = (await call_api(operator, "POST", path, body, 201))["text"]
    assert "# The cache is never cleared" in text and "> # It is the clock" in text
    missing = "0b0e0000-0000-4000-8000-000000000000"
    for value, problem in ((missing, missing), ("nothing", "ids of reports"), (f"{ids[0]}, {missing}", missing)):
        refused = await call_api(operator, "POST", path, {**body, "values": {"reports": value}}, 422)
        assert problem in refused["fields"]["reports"], value


async def test_the_answer_of_a_real_agent_is_its_report(api, operator, tmp_path: Path, monkeypatch):
    """An agent's last message is its report; a turn that nobody asked for one, or that failed, has none."""
    put_claude_on_path(tmp_path, monkeypatch)
    preset = {"template": "{{what}}", "variables": [{"name": "what"}], "report": True}
    await call_api(operator, "PUT", "/v1/presets/ask", preset)
    async with agent_running(api, tmp_path, kind="claude") as agent:
        for what in ("tool", "api_error"):
            body = {"preset": "ask", "values": {"what": what}}
            command = await call_api(operator, "POST", f"/v1/agents/{agent.id}/commands", body, 201)
            await operator.until_state(command, *FINAL)
            argv = json.loads((tmp_path / "called.json").read_text())["argv"]
            assert sum(argument.startswith("--json-schema={") for argument in argv) == 1
        plain = await operator.until_state(await operator.send(agent.id, "tool"), "succeeded")

        async def listed():
            return (await call_api(operator, "GET", "/v1/reports"))["reports"]

        (report,) = await until(listed, "the report of the turn")
        assert report["title"] == "The command printed: one" and report["command_id"] != plain["id"]
        steps = (await call_api(operator, "GET", f"/v1/commands/{report['command_id']}/steps"))["steps"]
        assert [step["name"] for step in steps if step["kind"] == "message"] == ["", "report"]
        argv = json.loads((tmp_path / "called.json").read_text())["argv"]
        assert not any(argument.startswith("--json-schema") for argument in argv)
