"""How many failed sign-ins an address or an account may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.auth.attempts import Attempts, network_of


def test_lets_a_burst_through_and_then_one_for_each_refill() -> None:
    """Three failures at once, then one more each ten seconds."""
    attempts = Attempts(burst=3, refill=10.0)
    assert [attempts.take(["a"], 0.0) is None for _ in range(4)] == [True, True, True, False]
    assert attempts.take(["a"], 9.0) is not None
    assert attempts.take(["a"], 10.0) is None
    assert attempts.take(["a"], 10.0) is not None


def test_says_how_long_to_wait() -> None:
    """After the wait that a refusal names, the next attempt is let through, and not before."""
    attempts = Attempts(burst=2, refill=10.0)
    attempts.take(["a"], 0.0)
    attempts.take(["a"], 0.0)
    refusal = attempts.take(["a"], 4.0)
    assert refusal is not None
    assert refusal.wait == pytest.approx(6.0)
    assert attempts.take(["a"], 9.9) is not None
    assert attempts.take(["a"], 10.0) is None


def test_one_full_key_refuses_and_counts_against_none() -> None:
    """An attempt that has to wait for one key costs the other nothing."""
    attempts = Attempts(burst=1, refill=10.0)
    attempts.take(["account"], 0.0)
    assert attempts.take(["address", "account"], 0.0) is not None
    assert attempts.take(["address"], 0.0) is None


def test_a_success_is_given_back() -> None:
    """Who signs in again and again with the right password is never refused."""
    attempts = Attempts(burst=1)
    for _ in range(20):
        assert attempts.take(["a"], 0.0) is None
        attempts.give_back(["a"])


def test_only_the_first_refusal_of_a_row_is_worth_telling() -> None:
    """A flood behind one refusal is not told of; a new row after something was allowed is."""
    attempts = Attempts(burst=1, refill=10.0)
    attempts.take(["a"], 0.0)
    told = [refusal.is_first for refusal in (attempts.take(["a"], 1.0) for _ in range(3)) if refusal]
    assert told == [True, False, False]
    assert attempts.take(["a"], 11.0) is None
    again = attempts.take(["a"], 12.0)
    assert again is not None
    assert again.is_first


def test_forgets_the_key_not_seen_for_longest() -> None:
    """Memory is bounded by the number of keys."""
    attempts = Attempts(burst=1, keys=2)
    for key in ("a", "b", "c"):
        attempts.take([key], 0.0)
    assert attempts.take(["c"], 0.0) is not None
    assert attempts.take(["a"], 0.0) is None


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=60))
def test_never_lets_more_through_than_the_burst_and_the_refill(gaps: list[float]) -> None:
    """Whatever the times, those let through are at most the burst and one for each refill that has passed."""
    attempts = Attempts(burst=5, refill=10.0)
    now, through = 0.0, 0
    for gap in gaps:
        now += gap
        through += attempts.take(["a"], now) is None
    assert through <= 5 + now / 10.0 + 1e-6


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
    """An IPv6 subscriber has a /64 to choose addresses from, so that is what is counted."""
    assert network_of(address) == network
