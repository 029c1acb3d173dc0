"""Why something failed, for the log and for people."""

from __future__ import annotations

import asyncio

import pytest

from onsembl.api.reason import reason_of


async def test_a_time_limit_has_a_reason_too() -> None:
    """Its error has no text: a sentence that ends with it would have no end."""
    with pytest.raises(TimeoutError) as ended:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    assert reason_of(ended.value) == "no answer in time"
    assert reason_of(OSError(111, "Connection refused")) == "[Errno 111] Connection refused"
