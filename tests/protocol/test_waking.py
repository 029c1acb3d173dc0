"""When workers are woken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.waking import START_SECONDS, Waker, wanted_workers

STEPS = st.lists(
    st.tuples(st.floats(0.0, 40.0), st.integers(0, 30), st.integers(0, 3), st.integers(0, 5), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(STEPS)
def test_a_worker_is_asked_for_while_too_few_are_alive_and_never_twice_for_one_start(steps):
    """With enough workers, or while no job waits, none is asked for. After a request that was taken, the next one waits
    until another worker is alive or the time for its start is over; one that failed is repeated within about a
    minute."""
    waker, now = Waker(jobs_per_worker=10), 0.0
    waits_until, alive_then = 0.0, 0
    for seconds, jobs, waiting, alive, taken in steps:
        now += seconds
        enough = alive * 10 >= jobs or waiting == 0
        asks = waker.look(now, jobs=jobs, waiting=waiting, alive=alive)
        assert not (asks and enough)
        if enough:
            waits_until = 0.0
        elif now >= waits_until:
            assert asks
        if asks:
            alive_then = alive
            waker.asked(now, taken=taken)
            waits_until = now + (START_SECONDS if taken else 60.0)
            assert not taken or not waker.look(now + START_SECONDS / 2, jobs=50, waiting=9, alive=alive_then)
            more = waker.look(now, jobs=60, waiting=9, alive=alive_then + 1)
            assert more == (alive_then + 1 < 6)
            alive_then += more


def test_one_worker_is_wanted_for_each_so_many_jobs():
    assert [wanted_workers(jobs, 200) for jobs in (0, 1, 200, 201)] == [0, 1, 1, 2]
