"""A process is dead after the same number in punctual looks for long enough, and only then."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.liveness import Liveness

DEAD = {"a": "1"}


def test_a_silent_process_is_dead_after_its_time_and_three_looks():
    """The third look finds a process dead that was silent in all of them, when they span the whole time."""
    liveness = Liveness[str](10.0)
    assert [liveness.look(now, now, DEAD) for now in (0, 5, 9.9, 10)] == [{}, {}, {}, DEAD]


def test_another_number_is_a_sign_of_life():
    """A heartbeat just before the end counts from the look that saw it."""
    liveness = Liveness[str](10.0)
    looks = [liveness.look(now, now, {"a": "1" if now < 10 else "2"}) for now in (0, 5, 10, 15, 19, 20)]
    assert looks == [{}, {}, {}, {}, {}, {"a": "2"}]


def test_a_late_look_starts_anew():
    """After a pause of the observer, a process has the whole time again to write a heartbeat."""
    liveness = Liveness[str](10.0)
    assert [liveness.look(now, now, DEAD) for now in (0, 5, 60, 65, 69, 70)] == [{}, {}, {}, {}, {}, DEAD]


def test_a_look_that_takes_long_is_late():
    """A look that the database answers late starts anew: the process has the whole time again."""
    liveness = Liveness[str](10.0)
    times = ((0, 0), (5, 5), (9, 69), (70, 70), (74, 74), (78.9, 79), (80, 80))
    looks = [liveness.look(began, ended, DEAD) for began, ended in times]
    assert looks == [{}] * 6 + [DEAD]


def test_a_process_that_returns_is_a_new_one():
    """A row that was removed and written again has the whole time, whatever its number."""
    liveness = Liveness[str](10.0)
    assert [liveness.look(now, now, DEAD if now != 5 else {}) for now in (0, 5, 10, 15, 20)] == [{}, {}, {}, {}, DEAD]


@given(
    st.lists(st.tuples(st.floats(0.01, 8), st.floats(0, 8), st.booleans()), max_size=60),
)
def test_no_process_is_dead_that_has_written_in_time(events):
    """Whatever pauses the observer makes, a process found dead has been silent for its time, through three looks."""
    liveness = Liveness[str](10.0)
    now = beat = 0.0
    number, since = 0, 0
    for pause, took, beats in events:
        now += pause
        if beats:
            number, beat, since = number + 1, now, 0
        dead = liveness.look(now, now + took, {"a": str(number)})
        since += 1
        if dead:
            assert now - beat >= 10.0 and since >= 3
        now += took
