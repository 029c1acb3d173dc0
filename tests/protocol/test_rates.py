"""Rate limits: the sliding window, the fixed window and the leaky buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.rates import FixedWindow, LeakyBuckets, SlidingWindow, network_of


@given(st.lists(st.floats(0, 0.5), max_size=100))
def test_a_sliding_window_allows_a_steady_rate_below_the_limit(pauses):
    """Events with pauses no shorter than the limit's are always allowed."""
    rate, now = SlidingWindow(10, 5), 0.0
    for pause in pauses:
        now += 0.1 + pause
        assert rate.add(now)


def test_a_sliding_window_averages_a_burst():
    """A burst of all the events of a window is allowed, and no more until the window has passed."""
    rate = SlidingWindow(10, 5)
    assert all(rate.add(1.0) for _ in range(50))
    assert not rate.add(1.0)
    assert rate.add(7.0)


def test_a_fixed_window_counts_calls_from_the_first():
    """The window begins with the first call; the first call after its end begins a new window."""
    calls = FixedWindow(2, 30)
    assert [calls.add(t) for t in (0, 1, 29, 30, 31, 32, 33)] == [True, True, False, False, True, True, False]


def test_a_bucket_allows_a_burst_and_then_one_attempt_for_each_refill() -> None:
    """A bucket of three with a refill of ten seconds allows three attempts at once, then one each ten seconds."""
    attempts = LeakyBuckets(burst=3, refill=10.0)
    assert [attempts.take(["a"], 0.0) is None for _ in range(4)] == [True, True, True, False]
    assert attempts.take(["a"], 9.0) is not None
    assert attempts.take(["a"], 10.0) is None
    assert attempts.take(["a"], 10.0) is not None


def test_a_rejection_says_how_long_to_wait() -> None:
    """The next attempt is allowed after the wait that a rejection names, and not before."""
    attempts = LeakyBuckets(burst=2, refill=10.0)
    attempts.take(["a"], 0.0)
    attempts.take(["a"], 0.0)
    rejection = attempts.take(["a"], 4.0)
    assert rejection is not None
    assert rejection.wait == pytest.approx(6.0)
    assert attempts.take(["a"], 9.9) is not None
    assert attempts.take(["a"], 10.0) is None


def test_a_rejected_attempt_counts_against_no_key() -> None:
    """An attempt that is rejected for one of its keys does not count against the other."""
    attempts = LeakyBuckets(burst=1, refill=10.0)
    attempts.take(["account"], 0.0)
    assert attempts.take(["address", "account"], 0.0) is not None
    assert attempts.take(["address"], 0.0) is None


def test_a_refunded_attempt_does_not_count() -> None:
    """Attempts that are all refunded are never rejected, such as sign-ins with the right password."""
    attempts = LeakyBuckets(burst=1)
    for _ in range(20):
        assert attempts.take(["a"], 0.0) is None
        attempts.refund(["a"])


def test_only_the_first_rejection_of_a_series_is_marked_first() -> None:
    """An allowed attempt ends a series of rejections."""
    attempts = LeakyBuckets(burst=1, refill=10.0)
    attempts.take(["a"], 0.0)
    told = [rejection.is_first for rejection in (attempts.take(["a"], 1.0) for _ in range(3)) if rejection]
    assert told == [True, False, False]
    assert attempts.take(["a"], 11.0) is None
    again = attempts.take(["a"], 12.0)
    assert again is not None
    assert again.is_first


def test_buckets_forget_the_key_unused_for_longest() -> None:
    """The number of keys is bounded, and the key that was unused for longest is forgotten."""
    attempts = LeakyBuckets(burst=1, keys=2)
    for key in ("a", "b", "c"):
        attempts.take([key], 0.0)
    assert attempts.take(["c"], 0.0) is not None
    assert attempts.take(["a"], 0.0) is None


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=60))
def test_a_bucket_never_allows_more_than_the_burst_and_the_refill(gaps: list[float]) -> None:
    """At any times, the allowed attempts are at most the burst and one for each refill that has passed."""
    attempts = LeakyBuckets(burst=5, refill=10.0)
    now, allowed = 0.0, 0
    for gap in gaps:
        now += gap
        allowed += attempts.take(["a"], now) is None
    assert allowed <= 5 + now / 10.0 + 1e-6


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_counts_an_ipv6_subscriber_as_one(address: str, network: str) -> None:
    """An IPv6 subscriber is counted by its /64, from which it chooses its addresses."""
    assert network_of(address) == network
