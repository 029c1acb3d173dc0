"""The real OpenCode through agent and server, on a scripted model: it does what opencode.toml says."""

from __future__ import annotations

import pytest
from clis.programs import ASKING_OPENCODE, OPENCODE
from clis.turns import check
from support.case_tables import runnable, table

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


@pytest.mark.parametrize("case", runnable(table("opencode")), ids=lambda case: case["name"])
async def test_a_case_gives_what_the_table_says(api, admin, pinned, model, tmp_path, monkeypatch, case):
    """State, error, steps, and no process is left."""
    cli = ASKING_OPENCODE if case.get("asks") else OPENCODE
    cli.use(pinned, model, tmp_path, monkeypatch)
    await check(api, admin, tmp_path, cli, case)
