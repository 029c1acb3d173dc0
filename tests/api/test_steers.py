"""Texts that are sent into the running turn of an agent."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.agents import FINAL, CuttableLink, Operator, agent_running, until
from support.api_calls import audit_entries, call_api
from support.claude import put_claude_on_path
from support.command_line import CommandLine
from support.server import Api

from onsembl.sql.database import connect


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_claude_on_path(tmp_path, monkeypatch)


async def steer_steps(admin: Operator, turn: dict) -> list[str]:
    """The texts that a turn has taken, once its last step has arrived."""

    async def ended():
        listed = (await call_api(admin, "GET", f"/v1/commands/{turn['id']}/steps"))["steps"]
        return listed if any(step["kind"] == "result" for step in listed) else None

    steps = await until(ended, "the turn's end is a step")
    return [step["text"] for step in steps if (step["kind"], step["name"]) == ("input", "steer")]


async def test_a_text_is_taken_into_the_turn_or_is_the_next_command(api, admin, claude, tmp_path):
    """Its row says which: it is taken as a step, or late and then a turn of the same conversation."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        await call_api(admin, "PUT", f"/v1/agents/{agent.id}/permission-mode", {"permission_mode": "accept_edits"})
        turn = await admin.until_state(await admin.send(agent.id, "tool TAKES", permission_mode="ask"), "running")
        first = turn["id"]
        text = await admin.send(agent.id, "leave the tests alone", steer=True, conversation="latest")
        assert (text["steers"], text["conversation_id"]) == (turn["id"], turn["conversation_id"])
        text = await admin.until_state(text, *FINAL)
        assert (text["state"], text["steer_state"], text["steer_step"]) == ("succeeded", "taken", 2)
        assert text["started_at"] is None
        assert (await admin.until_state(turn, *FINAL))["state"] == "succeeded"
        assert await steer_steps(admin, turn) == ["leave the tests alone"]
        assert (await call_api(admin, "GET", f"/v1/conversations/{turn['conversation_id']}"))["turns"] == 1

        # The turn ends without taking it: it runs ahead of what waits, in the same conversation and mode.
        turn = await admin.until_state(await admin.send(agent.id, "tool DROPS", permission_mode="ask"), "running")
        waiting = await admin.send(agent.id, "words")
        text = await admin.send(agent.id, "tool", steer=True)
        assert text["turn"]["permission_mode"] == "ask"
        ended = [await admin.until_state(row, *FINAL) for row in (turn, text, waiting)]
        assert [row["state"] for row in ended] == ["failed", "succeeded", "succeeded"]
        assert (ended[1]["steer_state"], ended[1]["steers"]) == ("late", turn["id"])
        assert ended[1]["conversation_id"] == turn["conversation_id"]
        assert ended[1]["started_at"] < ended[2]["started_at"]

        # No turn runs: the text is the next command of the latest conversation.
        text = await admin.send(agent.id, "words", steer=True)
        assert (text["steer_state"], text["steers"]) == ("late", None)
        assert text["conversation_id"] == waiting["conversation_id"]
        await admin.until_state(text, "succeeded")
    assert [detail for action, detail in await audit_entries(api, "command.steered")] == [{"into": first, "step": 2}]


async def test_a_text_is_given_once_over_lost_connections(api, admin, claude, tmp_path):
    """What the agent missed comes again, and is taken once; a text can be edited until the agent has it."""
    async with CuttableLink(api.url) as link, agent_running(api, tmp_path, kind="claude", server=link.url) as agent:
        turn = await admin.until_state(await admin.send(agent.id, "tool TAKES"), "running")
        link.sever()

        async def offline():
            return (await call_api(admin, "GET", f"/v1/agents/{agent.id}"))["status"] == "offline"

        await until(offline, "the agent is offline")
        text = await admin.send(agent.id, "leave the tests", steer=True)
        dropped = await admin.send(agent.id, "forget it", steer=True)
        assert [text["steer_state"], dropped["steer_state"]] == ["waiting", "waiting"]
        await call_api(admin, "PATCH", f"/v1/commands/{text['id']}", {"text": "leave the tests alone"})
        await admin.cancel(dropped)
        link.mend()
        assert (await admin.until_state(text, *FINAL))["steer_state"] == "taken"
        assert (await admin.until_state(turn, *FINAL))["state"] == "succeeded"
        assert await steer_steps(admin, turn) == ["leave the tests alone"]
        assert (await admin.read(dropped))["state"] == "cancelled"


async def test_a_text_of_a_cancelled_turn_is_cancelled(api, admin, claude, tmp_path):
    """While the turn has it, it can be neither edited nor cancelled; it ends with the turn, and says why."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        turn = await admin.until_state(await admin.send(agent.id, "interrupted KEEP_ON"), "running")
        text = await admin.send(agent.id, "and this", steer=True)

        async def given():
            return (await admin.read(text))["steer_state"] == "given"

        await until(given, "the agent has the text")
        path = f"/v1/commands/{text['id']}"
        for method, to, body in (("PATCH", "", {"text": "other"}), ("POST", "/cancel", {})):
            problem = await call_api(admin, method, path + to, body, 409)
            assert problem["detail"] == "The running turn has been given this text: cancel the turn to stop it."
        await admin.cancel(turn)
        text = await admin.until_state(text, *FINAL)
        assert (text["state"], text["steer_state"]) == ("cancelled", "late")
        assert text["error"] == "The turn was cancelled before it took this text."
        assert text["cancel_requested_by"] is not None


async def test_who_takes_no_text_says_so(api, admin, claude, tmp_path):
    """An agent of command lines, an older agent, and a text with settings of its own are refused in words."""
    shell = await api.enrol("shell")
    async with agent_running(api, tmp_path, kind="claude") as agent:
        await admin.until_state(await admin.send(agent.id, "words"), *FINAL)
        command = {"text": "x", "steer": True}
        problem = await call_api(admin, "POST", f"/v1/agents/{shell.id}/commands", command, 409)
        assert "type into its terminal instead" in problem["detail"]
        problem = await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", {**command, "model": "opus"}, 422)
        assert problem["detail"] == "A text for the running turn takes no settings of a turn."
        await call_api(admin, "POST", "/v1/groups", {**command, "target": {"all": True}}, 422)
        async with await connect(api.database_url) as conn:
            await conn.execute("update agents set takes_steers = false")
        problem = await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", command, 409)
        assert problem["detail"].endswith("Update it, or queue the text.")


async def test_the_command_line_steers(api, admin, claude, tmp_path):
    """It says where the text goes, and with --wait what became of it."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        turn = await admin.until_state(await admin.send(agent.id, "tool TAKES"), "running")
        run = CommandLine(api, await api.operator(), tmp_path).run
        shown, _ = await run("send", "--agent", "one", "--steer", "--wait", "and this")
        assert f"taken as step 2 of {turn['id']}" in shown
        await admin.until_state(turn, *FINAL)
        shown, _ = await run("send", "--agent", "one", "--steer", "words")
        assert "No turn runs: it is the next command." in shown
