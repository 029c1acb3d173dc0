"""Steps of a turn: from the agent's disk to the REST API and the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from support.agents import FINAL, CuttableLink, Operator, agent_running, until
from support.api_calls import call_api
from support.archive import until_archived
from support.claude import put_claude_on_path
from support.command_line import CommandLine
from support.server import Api

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import Role
from onsembl.protocol.turn_steps import Step
from onsembl.sql import steps
from onsembl.sql.database import connect

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_claude_on_path(tmp_path, monkeypatch)


async def until_steps(admin: Operator, command: dict) -> list[dict]:
    """The steps of a command, once its turn has ended."""

    async def ended():
        listed = (await call_api(admin, "GET", f"/v1/commands/{command['id']}/steps"))["steps"]
        return listed if any(step["kind"] == "result" for step in listed) else None

    return await until(ended, "the turn's end is a step")  # type: ignore[return-value]


async def test_what_happened_in_a_turn_is_kept(api, admin, claude, tmp_path):
    """Each step has its kind, its text and its result, and the bytes of the terminal that show it."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        command = await admin.until_state(await admin.send(agent.id, "tool"), *FINAL)
        listed = sorted(await until_steps(admin, command), key=lambda step: step["number"])
        assert [(step["kind"], step["name"], step["status"]) for step in listed] == [
            ("tool", "Bash", "completed"),
            ("message", "", "completed"),
            ("result", "completed", "completed"),
        ]
        tool, message, result = listed
        assert json.loads(tool["text"])["command"]
        assert (tool["result"], tool["result_length"]) == ("\n".join(["one", "two", *map(str, range(1, 31))]), 88)
        assert message["title"] == "The command printed: one"
        assert (result["tokens"], result["cost_usd"]) == (232, pytest.approx(0.0018))
        shown = await until_archived(api.database_url, command["stream_id"], message["output_end"])
        assert shown[message["output_start"] :].startswith(b"The command printed: one\r\ntwo\r\n")

        path = f"/v1/commands/{command['id']}/steps"
        page = await call_api(admin, "GET", f"{path}?limit=2")
        rest = await call_api(admin, "GET", f"{path}?after={page['next_after']}")
        assert [len(page["steps"]), len(rest["steps"]), rest["next_after"]] == [2, 1, None]
        assert (await call_api(admin, "GET", f"{path}/1"))["result"] == tool["result"]
        await call_api(admin, "GET", f"{path}/9", status=404)
        await call_api(admin, "GET", f"{path}/{2**40}", status=404)
        await call_api(admin, "GET", f"/v1/commands/{uuid4()}/steps", status=404)
        run = CommandLine(api, await api.operator(Role.VIEWER), tmp_path).run
        out, _ = await run("commands", "trace", command["id"])
        assert [line.split(maxsplit=2)[2].split(" · ")[0] for line in out.splitlines()] == [
            f"Bash: {tool['title']}",
            "message: The command printed: one",
            "result",
        ]
        followed, _ = await run("commands", "trace", command["id"], "--follow")
        assert followed == out
        whole, _ = await run("commands", "trace", command["id"], "--step", "1")
        assert "  one\n  two\n" in whole
        out, _ = await run("commands", "trace", command["id"], "--json")
        assert [step["number"] for step in json.loads(out)] == [1, 2, 3]


async def test_steps_outlive_the_connection(api, admin, claude, tmp_path):
    """A turn that ends without a connection, and an agent that is killed before the server has its steps: they arrive
    once."""
    async with CuttableLink(api.url) as link:
        async with agent_running(api, tmp_path, kind="claude", server=link.url) as agent:
            command = await admin.send(agent.id, "interrupted KEEP_ON")
            kept = tmp_path / "agents" / "one" / "steps" / f"{command['id']}.jsonl"

            async def begun():
                return kept.exists() and kept.stat().st_size > 0

            await until(begun, "the first step")
            link.sever()
            agent.process.kill()
            await agent.process.wait()
            link.mend()
        async with agent_running(api, tmp_path, kind="claude", server=link.url):
            assert (await admin.until_state(command, *FINAL))["state"] == "lost"

            async def arrived():
                return (await call_api(admin, "GET", f"/v1/commands/{command['id']}/steps"))["steps"]

            listed = await until(arrived, "steps of the killed agent")
            assert [step["number"] for step in listed] == list(range(1, len(listed) + 1))
            await admin.until_state(await admin.send(agent.id, "words"), *FINAL)
    assert list((tmp_path / "agents" / "one" / "steps").iterdir()) == []


@pytest.mark.no_worker
async def test_the_newest_revision_of_a_step_is_kept(api, admin):
    """A step that comes again, or late, changes nothing; another agent's command has no steps."""
    agent, other = await api.enrol("one", "claude"), await api.enrol("two", "claude")
    command = await admin.send(agent.id, "x")
    command_id = CommandId(UUID(command["id"]))

    def step(number: int, revision: int, text: str) -> Step:
        return Step(
            number=number,
            revision=revision,
            kind="message",
            status="completed",
            title=text[:9],
            text=text,
            started_at=NOW,
            output_start=0,
            output_end=0,
        )

    async with await connect(api.database_url, role="onsembl_api") as conn:
        await steps.write(
            conn, AgentId(UUID(agent.id)), command_id, [step(1, 1, "a"), step(1, 2, "b"), step(2, 1, "c")]
        )
        await steps.write(conn, AgentId(UUID(agent.id)), command_id, [step(1, 1, "late"), step(3, 1, "é" * 5000)])
        await steps.write(conn, AgentId(UUID(other.id)), command_id, [step(9, 1, "of another agent")])
        await conn.commit()
        progress = await (await conn.execute("select steps, number, kind from turn_progress")).fetchall()
    listed = (await call_api(admin, "GET", f"/v1/commands/{command['id']}/steps"))["steps"]
    assert [(step["number"], step["revision"], step["text"][:4]) for step in listed] == [
        (1, 2, "b"),
        (2, 1, "c"),
        (3, 1, "éééé"),
    ]
    assert (len(listed[2]["text"]), listed[2]["text_length"]) == (2000, 5000)
    assert [tuple(row.values()) for row in progress] == [(3, 3, "message")]
