"""The vendors' limits, as the translators of the coding CLIs report them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.drivers.rate_limits import RateLimits
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.vendor_limits import MAX_WINDOWS, RateWindow, VendorLimit

RESET = datetime(2026, 11, 28, 15, tzinfo=UTC)
SECONDS = int(RESET.timestamp())
TEXT = {"type": "text", "text": "You've hit your session limit"}
TOOL = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}
FAILED = {"type": "result", "subtype": "success", "is_error": True, "terminal_reason": "api_error", "num_turns": 1}


def claude(*lines: object) -> TurnReport:
    """The report of a run of Claude Code that has put out these lines."""
    run = ClaudeTranslator("the prompt", UUID(int=1), None)
    run.receive(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return run.report


def window(status: str, **fields: object) -> dict:
    info = {"status": status, "resetsAt": SECONDS, "rateLimitType": "five_hour", **fields}
    return {"type": "rate_limit_event", "rate_limit_info": info}


def message(*content: object, error: str | None = None) -> dict:
    line = {"type": "assistant", "message": {"id": "m", "content": list(content)}, "uuid": "u"}
    return line if error is None else {**line, "error": error}


def test_claude_tells_its_windows():
    """The last report of a window counts; a rejected one that more is paid for is a warning."""
    told = claude(
        window("allowed", utilization=0.5),
        window("allowed_warning", utilization=0.9),
        window("rejected", rateLimitType="seven_day", isUsingOverage=True),
        window("allowed", rateLimitType=None, resetsAt="soon", utilization=-4),
    )
    assert told.windows == [
        RateWindow(name="five_hour", status="warning", used=0.9, resets_at=RESET),
        RateWindow(name="seven_day", status="warning", resets_at=RESET),
        RateWindow(name="plan", used=0.0),
    ]
    assert told.limit is None


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        ([window("rejected"), message(TEXT, error="rate_limit"), FAILED], VendorLimit(resets_at=RESET, untouched=True)),
        (
            [window("rejected", rateLimitType="seven_day_opus"), message(TEXT, error="rate_limit"), FAILED],
            VendorLimit(resets_at=RESET, untouched=True, model="opus"),
        ),
        (
            [
                window("rejected"),
                window("rejected", rateLimitType="seven_day_opus"),
                message(TEXT, error="rate_limit"),
                FAILED,
            ],
            VendorLimit(resets_at=RESET, untouched=True),
        ),
        ([message(TOOL), message(TEXT, error="rate_limit"), FAILED], VendorLimit(untouched=False)),
        ([message(TEXT, error="overloaded"), FAILED], None),
        ([window("rejected"), message(TEXT), {**FAILED, "is_error": False}], None),
    ],
    ids=["at once", "of a model", "also of a model", "on its way", "another error", "no error"],
)
def test_a_turn_of_claude_ends_at_a_limit(lines, limit):
    """The report says whether the turn had done anything, and when the window is reset if that is known."""
    assert claude(*lines).limit == limit


def test_codex_tells_its_windows():
    """A window without a name has that of its length; what is null has not changed."""
    limits = RateLimits()
    primary = {"usedPercent": 100, "windowDurationMins": 300, "resetsAt": SECONDS}
    secondary = {"usedPercent": 12.5, "windowDurationMins": 10080, "resetsAt": None}
    notices = limits.take_codex({"primary": primary, "secondary": secondary, "rateLimitReachedType": "primary"})
    limits.take_codex({"primary": None, "secondary": None, "rateLimitReachedType": None})
    assert [notice.text for notice in notices] == ["Rate limit of the plan: primary."]
    assert limits.windows == [
        RateWindow(name="5 h", status="rejected", used=1.0, resets_at=RESET),
        RateWindow(name="7 d", used=0.125),
    ]
    limits.end_turn(at_limit=True, untouched=False)
    assert limits.limit == VendorLimit(resets_at=RESET)
    limits.end_turn(at_limit=False, untouched=True)
    assert limits.limit is None


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300)
FIELDS = ("status", "resetsAt", "rateLimitType", "utilization", "isUsingOverage")


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, values)), max_size=MAX_WINDOWS + 4))
def test_no_report_of_a_window_breaks_a_turn(told):
    """Whatever a CLI says of a window, the report is valid on the wire."""
    limits = RateLimits()
    for info in told:
        limits.take_claude(info)
        limits.take_codex({"primary": {"usedPercent": info.get("utilization"), "resetsAt": info.get("resetsAt")}})
    limits.end_turn(at_limit=True, untouched=True)
    report = TurnReport(windows=limits.windows, limit=limits.limit)
    assert msgspec.json.decode(msgspec.json.encode(report), type=TurnReport) == report
