"""The usage of Gemini CLI's turns, compared with what the model served."""

from __future__ import annotations

import pytest
from clis.programs import GEMINI
from clis.usage import counted_and_served

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


async def test_the_usage_of_turns_is_what_the_model_served(api, admin, gemini, model, tmp_path):
    """Token for token; `_meta.quota` has those from the cache among the input, and its vendor tells no writes."""
    counted, served = await counted_and_served(api, admin, model, tmp_path, GEMINI, continues=False, forks=False)
    assert counted["output_tokens"] == served["output_tokens"]
    assert counted["input_tokens"] == served["input_tokens"] + served["cache_read_tokens"]
