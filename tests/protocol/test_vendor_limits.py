"""When an agent that has reached a usage limit of its vendor goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.field_types import EARLIEST, LATEST
from onsembl.protocol.vendor_limits import FURTHEST, LONGEST_PAUSE, MARGIN, resume_at

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
clocks = st.none() | st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None), timezones=st.just(UTC))


@given(clocks, st.integers(-3, 10_000))
def test_a_pause_is_within_its_bounds_whatever_the_vendor_says(resets_at, strikes):
    """It is a minute at least and eight days at most."""
    assert NOW + MARGIN <= resume_at(NOW, resets_at, strikes) <= NOW + FURTHEST


@given(st.integers(1, 7 * 24 * 3600))
def test_an_agent_goes_on_a_minute_after_the_reset(seconds):
    """A reset of the coming week is believed."""
    resets_at = NOW + timedelta(seconds=seconds)
    assert resume_at(NOW, resets_at, 0) == resets_at + MARGIN


@given(st.lists(clocks, min_size=30, max_size=30))
def test_a_clock_that_lies_does_not_make_an_agent_loop(told):
    """Whatever each answer of a vendor names, the pauses grow to an hour: 30 attempts take a day at least."""
    now = NOW
    pauses = []
    for strikes, resets_at in enumerate(told):
        later = resume_at(now, resets_at, strikes)
        pauses.append(later - now)
        now = later
    assert all(pause >= min(MARGIN * 2**strikes, LONGEST_PAUSE) for strikes, pause in enumerate(pauses))
    assert now - NOW >= timedelta(days=1)
