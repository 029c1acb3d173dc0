"""When a failed part starts again, and when it is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.backoff import Backoff
from onsembl.protocol.restarts import RestartPolicy

STABLE = 100.0


def policy(attempts: int = 5) -> RestartPolicy:
    """A policy whose delays are their upper bounds."""
    return RestartPolicy(
        attempts=attempts, stable=STABLE, backoff=Backoff(1.0, cap=8.0, uniform=lambda _, bound: bound)
    )


def test_delays_grow_until_the_part_is_given_up():
    """The part waits 1, 2, 4 and 8 s after failures in a row, and is given up at the fifth."""
    restarts, delays = policy(), []
    for at in range(5):
        restarts.started(at)
        delays.append(restarts.failed(at))
    assert delays == [1.0, 2.0, 4.0, 8.0, None]


def test_a_long_run_clears_the_failures_before_it():
    """A part that fails after a long run is started again after the first delay."""
    restarts = policy(attempts=2)
    restarts.started(0)
    assert restarts.failed(1) == 1.0
    restarts.started(2)
    assert restarts.failed(2 + STABLE) == 1.0
    restarts.started(200)
    assert restarts.failed(201) is None


@given(st.lists(st.tuples(st.floats(0, 2 * STABLE), st.booleans()), max_size=60), st.integers(1, 8))
def test_only_failures_in_a_row_that_count_give_up(runs, attempts):
    """Any history of runs gives up exactly at the first row of `attempts` counted failures without a long run."""
    restarts, now, row = policy(attempts), 0.0, 0
    for seconds, counts in runs:
        restarts.started(now)
        now += seconds
        row = (0 if seconds >= STABLE else row) + counts
        delay = restarts.failed(now, counts=counts)
        assert (delay is None) == (counts and row >= attempts)
        if delay is None:
            return
        assert 0 < delay <= 8.0
        now += delay
