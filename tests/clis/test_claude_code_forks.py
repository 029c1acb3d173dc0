"""Forks of Claude Code's conversations."""

from __future__ import annotations

import json

import pytest
from support.agents import FINAL, agent_running
from support.api_calls import call_api

pytestmark = pytest.mark.clis


async def test_a_fork_ends_with_an_earlier_turn(api, admin, claude, tmp_path):
    """The copy has the turns up to that one; the original keeps all."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        first = await admin.until_state(await admin.send(agent.id, "alpha"), *FINAL)
        conversation = first["conversation_id"]
        await admin.until_state(await admin.send(agent.id, "beta", conversation=conversation), *FINAL)
        path = f"/v1/conversations/{conversation}/fork"
        copy = await call_api(admin, "POST", path, {"after": first["id"]}, 201)
        third = await admin.until_state(await admin.send(agent.id, "gamma", conversation=copy["id"]), *FINAL)
        assert (third["state"], third["error"]) == ("succeeded", None)
        (transcript,) = tmp_path.glob(f"**/projects/*/{copy['cli_id']}.jsonl")
        lines = [json.loads(line) for line in transcript.read_text().splitlines()]
        assert [line["message"]["content"] for line in lines if line.get("type") == "user"] == ["alpha", "gamma"]
