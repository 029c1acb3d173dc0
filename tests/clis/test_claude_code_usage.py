"""The usage of Claude Code's turns, compared with what the model served."""

from __future__ import annotations

import pytest
from clis.programs import CLAUDE
from clis.usage import counted_and_served

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


async def test_the_usage_of_turns_is_what_the_model_served(api, admin, claude, model, tmp_path):
    """Token for token, with those from the cache."""
    counted, served = await counted_and_served(api, admin, model, tmp_path, CLAUDE)
    assert counted == served
