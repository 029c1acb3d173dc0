"""Texts for the running turn of the real Claude Code."""

from __future__ import annotations

import pytest
from clis.turns import steps_of
from support.agents import FINAL, Operator, agent_running, until

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


async def until_step(admin: Operator, command: dict, kind: str) -> None:
    async def there():
        row, found = await admin.read(command), await steps_of(admin, command)
        assert row["state"] != "failed", row["error"]
        return any(step["kind"] == kind for step in found)

    await until(there, f"the turn has a step of the kind {kind}")


async def test_a_text_goes_into_a_turn_in_a_tool_and_in_an_answer(api, admin, claude, tmp_path):
    """In a tool it is taken after that tool, within one turn; in an answer it is taken right after, in a second one."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        turn = await admin.send(agent.id, "first [run: sleep 3; echo done]")
        await until_step(admin, turn, "tool")
        text = await admin.until_state(await admin.send(agent.id, "and this", steer=True), *FINAL)
        turn = await admin.until_state(turn, *FINAL)
        await until_step(admin, turn, "result")
        kinds = [(step["kind"], step["name"]) for step in await steps_of(admin, turn)]
        assert kinds == [("tool", "Bash"), ("input", "steer"), ("message", ""), ("result", "completed")]
        assert (text["steer_state"], text["steer_step"]) == ("taken", 2)
        assert (turn["state"], turn["usage"]["turns"]) == ("succeeded", 2)

        turn = await admin.send(agent.id, "second [slow: 4][words: 40]")
        await until_step(admin, turn, "message")
        text = await admin.until_state(await admin.send(agent.id, "and that", steer=True), *FINAL)
        turn = await admin.until_state(turn, *FINAL)

        async def both():
            return [step["kind"] for step in await steps_of(admin, turn)].count("result") == 2

        await until(both, "both results have arrived")
        kinds = [(step["kind"], step["title"]) for step in await steps_of(admin, turn)]
        # This version reports that it has taken the text after the first pieces of its answer.
        assert set(kinds[2:4]) == {("input", "and that"), ("message", "Scripted answer: and that")}
        assert [kind for kind, _ in kinds[:2]] == ["message", "result"]
        assert (turn["state"], turn["error"]) == ("succeeded", None)
        assert (text["steer_state"], text["steers"]) == ("taken", turn["id"])
        assert kinds[text["steer_step"] - 1][0] == "input"


async def test_a_text_is_dropped_with_a_cancelled_turn(api, admin, claude, tmp_path):
    """The next command continues the conversation."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        turn = await admin.send(agent.id, "first [run: sleep 60; echo done]")
        await until_step(admin, turn, "tool")
        text = await admin.send(agent.id, "and this", steer=True)

        async def given():
            return (await admin.read(text))["steer_state"] == "given"

        await until(given, "the CLI has the text")
        await admin.cancel(turn)
        assert (await admin.until_state(turn, *FINAL))["state"] == "cancelled"
        assert (await admin.read(text))["steer_state"] in ("late", "taken")  # older versions begin a turn for it
        again = await admin.until_state(await admin.send(agent.id, "again", conversation="latest"), *FINAL)
        assert (again["state"], again["conversation_id"]) == ("succeeded", turn["conversation_id"])
