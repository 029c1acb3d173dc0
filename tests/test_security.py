"""The page on security tells of tests that exist, and of the limits as they are."""

from __future__ import annotations

import re
from pathlib import Path

from onsembl.api.auth.device_flow import MAX_OPEN, MAX_OPEN_PER_ADDRESS
from onsembl.api.auth.rate_limits import RateLimits

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_is_named_exists():
    """In the file that is named, or in the last one named before it."""
    file, named = "", 0
    for path, name in re.findall(r"`(tests/[\w/.]+)?::(\w+)`", PAGE):
        file = path or file
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"
        named += 1
    assert named > 30


def test_every_threat_has_a_test():
    """No row of the table is a mere claim."""
    table = PAGE.split("## Threats")[1].split("## Limits")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert [row for row in rows if "::test_" not in row] == []


def test_the_limits_are_those_of_the_code():
    """In the order of the table."""
    limits = RateLimits()
    table = [row.split("|") for row in PAGE.split("## Limits")[1].splitlines() if row.startswith("| ")][2:]
    allowances = [
        limits.agent_connects,
        limits.agent_refreshes,
        limits.address_connects,
        limits.address_token_requests,
        limits.address_failures,
        limits.address_invalid_tokens,
        limits.address_introspections,
        limits.address_device_requests,
        limits.user_codes,
    ]
    said = [(int(row[2].replace(",", "")), _seconds(row[3])) for row in table]
    assert said[:-1] == [(allowance.burst, allowance.refill) for allowance in allowances]
    assert f"{limits.unauthenticated_realtime_sockets} sockets of Realtime" in PAGE
    assert f"at most {MAX_OPEN} open, {MAX_OPEN_PER_ADDRESS} of one address" in PAGE
    assert said[-1] == (limits.messages_per_second * 10, 1 / limits.messages_per_second)


def _seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) / {"s": 1, "ms": 1000}[unit]
