"""The real Claude by ACP through agent and server, on a scripted model: it does what claude_agent_acp.toml says."""

from __future__ import annotations

import pytest
from clis.programs import CLAUDE_BY_ACP
from clis.turns import check
from clis.usage import counted_and_served
from support.case_tables import runnable, table

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


@pytest.mark.parametrize("case", runnable(table("claude_agent_acp")), ids=lambda case: case["name"])
async def test_a_case_gives_what_the_table_says(api, admin, pinned, model, tmp_path, monkeypatch, case):
    """State, error, steps, and no process is left."""
    CLAUDE_BY_ACP.use(pinned, model, tmp_path, monkeypatch)
    await check(api, admin, tmp_path, CLAUDE_BY_ACP, case)


async def test_the_usage_of_turns_is_what_the_model_served(api, admin, pinned, model, tmp_path, monkeypatch):
    """Token for token; the calls for titles and for next prompts, which the adapter does not report, are not made."""
    CLAUDE_BY_ACP.use(pinned, model, tmp_path, monkeypatch)
    counted, served = await counted_and_served(api, admin, model, tmp_path, CLAUDE_BY_ACP)
    assert counted == served
