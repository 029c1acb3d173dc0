"""When workers are woken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.waking import START_SECONDS, Load, Waker, too_few, wanted_workers

LOADS = st.builds(Load, st.integers(0, 30), st.none() | st.integers(1, 3), st.integers(0, 5))
STEPS = st.lists(st.tuples(st.floats(0.0, 40.0), LOADS, st.booleans()), min_size=1, max_size=60)


@given(STEPS)
def test_a_worker_is_asked_for_while_too_few_are_alive_and_never_twice_for_one_start(steps):
    """With enough workers, or while no job waits, none is asked for. After a request that was taken, the next one waits
    until another worker is alive, or none and the job that waited then has been taken, or the time for its start is
    over; one that failed is repeated within about a minute."""
    waker, now = Waker(jobs_per_worker=10), 0.0
    waits_until, then = 0.0, Load(0, None, 0)
    for seconds, load, taken in steps:
        now += seconds
        enough = load.workers * 10 >= load.jobs or load.oldest is None
        assert too_few(load, 10) == (not enough)
        asks = waker.look(now, load)
        assert not (asks and enough)
        if enough:
            waits_until = 0.0
        elif now >= waits_until:
            assert asks
        if asks:
            then = load
            waker.asked(now, taken=taken)
            waits_until = now + (START_SECONDS if taken else 60.0)
            assert not taken or not waker.look(now + START_SECONDS / 2, Load(50, then.oldest, then.workers))
            more = waker.look(now, Load(60, then.oldest, then.workers + 1))
            assert more == (then.workers + 1 < 6)
            if more:
                then = Load(60, then.oldest, then.workers + 1)


@pytest.mark.parametrize(("oldest", "workers", "asks"), [(7, 0, False), (8, 0, True), (8, 1, False), (6, 0, False)])
def test_a_worker_that_has_gone_again_has_come(oldest, workers, asks):
    """The job that waited was taken, and no worker is left: the next job waits for no start that is over."""
    waker = Waker(jobs_per_worker=1)
    assert waker.look(0.0, Load(3, 7, workers))
    waker.asked(0.0, taken=True)
    assert waker.look(1.0, Load(3, oldest, workers)) == asks


def test_one_worker_is_wanted_for_each_so_many_jobs():
    assert [wanted_workers(jobs, 200) for jobs in (0, 1, 200, 201)] == [0, 1, 1, 2]
