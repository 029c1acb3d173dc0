"""The usage of Claude Code's turns, compared with what the model served."""

from __future__ import annotations

from collections import Counter

import pytest
from support.agents import FINAL, agent_running
from support.api_calls import call_api

pytestmark = pytest.mark.clis

TURNS = 20
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def prompt(number: int) -> str:
    """A prompt with numbers of its own; every fourth turn calls the model a second time, after a tool."""
    script = f"[input: {100 + number}] [tokens: {10 + number}] [cache: {1000 * number} {7 * number}]"
    return f"turn {number} {script}" + (" [run: true]" if number % 4 == 0 else "")


async def test_the_usage_of_turns_is_what_the_model_served(api, admin, claude, model, tmp_path):
    """Token for token, over turns that continue conversations, begin new ones and fork one."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        conversation, counted = "new", Counter[str]()
        for number in range(1, TURNS + 1):
            command = await admin.send(agent.id, prompt(number), conversation=conversation)
            ended = await admin.until_state(command, *FINAL)
            assert (ended["state"], ended["error"]) == ("succeeded", None)
            counted.update({name: ended["usage"][name] for name in COUNTS})
            conversation = "new" if number % 7 == 0 else ended["conversation_id"]
            if number % 6 == 0:
                path = f"/v1/conversations/{ended['conversation_id']}/fork"
                conversation = (await call_api(admin, "POST", path, {}, 201))["id"]
    served = (await api.http.get(f"{model}/served")).json()
    assert served["cache_read_tokens"] > 0 and served["cache_write_tokens"] > 0
    assert dict(counted) == served
