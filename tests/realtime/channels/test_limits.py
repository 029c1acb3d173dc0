"""Counting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.channels.limits import CallsInWindow, Rate


@given(st.lists(st.floats(0, 0.5), max_size=100))
def test_a_steady_rate_below_the_limit_is_never_too_much(pauses):
    """Whatever the pauses, as long as each is at least the limit's."""
    rate, now = Rate(10, 5), 0.0
    for pause in pauses:
        now += 0.1 + pause
        assert rate.add(now)


def test_a_burst_is_averaged():
    """As many as the window allows at once, and no more until it has passed."""
    rate = Rate(10, 5)
    assert all(rate.add(1.0) for _ in range(50))
    assert not rate.add(1.0)
    assert rate.add(7.0)


def test_calls_in_a_window():
    """Counted from the first; a new window begins after its end."""
    calls = CallsInWindow(2, 30)
    assert [calls.add(t) for t in (0, 1, 29, 30, 31, 32, 33)] == [True, True, False, False, True, True, False]
