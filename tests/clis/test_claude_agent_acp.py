"""The real Claude by ACP through agent and server, on a scripted model: it does what claude_agent_acp.toml says."""

from __future__ import annotations

import pytest
from clis.programs import CLAUDE_BY_ACP
from clis.turns import check
from support.case_tables import runnable, table

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


@pytest.mark.parametrize("case", runnable(table("claude_agent_acp")), ids=lambda case: case["name"])
async def test_a_case_gives_what_the_table_says(api, admin, pinned, model, tmp_path, monkeypatch, case):
    """State, error, steps, and no process is left."""
    CLAUDE_BY_ACP.use(pinned, model, tmp_path, monkeypatch)
    await check(api, admin, tmp_path, CLAUDE_BY_ACP, case)
