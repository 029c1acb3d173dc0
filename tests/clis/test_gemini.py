"""The real Gemini CLI through agent and server, on a scripted model: it does what gemini.toml says."""

from __future__ import annotations

import pytest
from clis.programs import GEMINI
from clis.turns import check
from support.case_tables import runnable, table

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


@pytest.mark.parametrize("case", runnable(table("gemini")), ids=lambda case: case["name"])
async def test_a_case_gives_what_the_table_says(api, admin, gemini, tmp_path, case):
    """State, error, steps, and no process is left."""
    await check(api, admin, tmp_path, GEMINI, case)
