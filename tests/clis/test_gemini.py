"""The real Gemini CLI through agent and server, on a scripted model: it does what gemini.toml says."""

from __future__ import annotations

import pytest
from clis.programs import GEMINI
from clis.turns import SECONDS, check, steps_of
from support.agents import FINAL, agent_running, until
from support.case_tables import runnable, table

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


@pytest.mark.parametrize("case", runnable(table("gemini")), ids=lambda case: case["name"])
async def test_a_case_gives_what_the_table_says(api, admin, gemini, tmp_path, case):
    """State, error, steps, and no process is left."""
    await check(api, admin, tmp_path, GEMINI, case)


async def test_a_conversation_is_not_loaded_in_the_minute_in_which_it_was_opened(api, admin, gemini, tmp_path):
    """Of two commands at once the second one waits for the next minute, says so, and knows the first."""
    async with agent_running(api, tmp_path, kind="gemini") as agent:
        first = await admin.until_state(await admin.send(agent.id, "my name is Ada"), *FINAL)
        again = await admin.send(agent.id, "[recall: 1]", conversation=first["conversation_id"])
        second = await admin.until_state(again, *FINAL, seconds=SECONDS)
        assert (first["state"], second["state"], second["error"]) == ("succeeded", "succeeded", None)

        async def answered():
            titles = [step["title"] for step in await steps_of(admin, second)]
            return titles if "my name is Ada" in titles else None

        titles = await until(answered, "it knows the first")
        minutes = {path.stem.removeprefix("session-")[:16] for path in tmp_path.glob("**/chats/session-*.jsonl")}
        assert len(minutes) == 2, "each has a file of its own"
        waited = any(title.startswith("Waits ") for title in titles)
        assert waited == (second["started_at"][:16].replace(":", "-") == min(minutes))
