"""What an agent does, in one word."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.activity import AgentActivity, AgentFacts, activity_of

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
IDLE = AgentFacts(online=True)
FACTS: dict[AgentActivity, dict[str, Any]] = {
    AgentActivity.OFFLINE: {"online": False, "disconnected_at": NOW - timedelta(minutes=1)},
    AgentActivity.HALTED: {"halted_at": NOW - timedelta(minutes=2)},
    AgentActivity.WAITING: {
        "waiting": 2,
        "waiting_since": NOW - timedelta(minutes=3),
        "waiting_title": "npm test",
        "waiting_id": uuid4(),
    },
    AgentActivity.WORKING: {"command_id": uuid4(), "command_since": NOW - timedelta(minutes=4)},
    AgentActivity.PROBLEM: {"problem": "The disk is full.", "problem_since": NOW - timedelta(minutes=5)},
    AgentActivity.PAUSED: {"paused_at": NOW - timedelta(minutes=6), "paused_by_name": "ann"},
    AgentActivity.LIMITED: {
        "limited_since": NOW - timedelta(minutes=7),
        "limited_until": NOW + timedelta(minutes=7),
    },
    AgentActivity.IDLE: {},
}
REASONS = {
    AgentActivity.WAITING: "npm test",
    AgentActivity.PROBLEM: "The disk is full.",
    AgentActivity.PAUSED: "by ann",
}


@given(st.sets(st.sampled_from(list(AgentActivity))))
def test_the_first_activity_that_applies_counts(applying: set[AgentActivity]) -> None:
    """Of all that is so at the same time, the first activity of the enumeration is the agent's; with its own time and
    reason, and until when only for a usage limit."""
    facts = IDLE
    for name in applying:
        facts = replace(facts, **FACTS[name])
    activity = activity_of(facts)
    first = min(applying | {AgentActivity.IDLE}, key=list(AgentActivity).index)
    assert activity.name is first
    since = None if first is AgentActivity.IDLE else NOW - timedelta(minutes=1 + list(AgentActivity).index(first))
    assert activity.since == since
    assert activity.reason == REASONS.get(first)
    assert (activity.until is not None) == (first is AgentActivity.LIMITED)
    assert activity.waiting == (2 if AgentActivity.WAITING in applying else 0)
