"""When the bytes of a stream were received."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.byte_times import MAX_MARKS, UNKNOWN, ByteTimes


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), max_size=30), st.integers(0, 300), st.integers(0, 300))
def test_each_byte_has_its_second(chunks, start, end):
    """The marks of any range give each of its bytes the second in which its chunk was received."""
    times, truth = ByteTimes(), []
    now = 1000.5
    for size, wait in chunks:
        now += wait / 3
        times.note(len(truth), now)
        truth += [int(now)] * size
    told = dict(times.marks(start, end))
    second = None
    for offset in range(start, min(end, len(truth))):
        second = told.get(offset, second)
        assert second == truth[offset]
    assert [mark for mark in times.marks(0) if mark[0] > start] == times.later(start)


@pytest.mark.parametrize("wait", [1, 7])
def test_each_byte_has_a_time_however_many_there_are(wait):
    """Memory is bounded: of the older bytes the seconds are less than twice `step` too early, which grows with the
    stream and not beyond what so few marks need; those of the newer ones are exact."""
    times, count = ByteTimes(), 20 * MAX_MARKS
    for offset in range(count):
        times.note(offset, 1000 + wait * offset)
    assert len(times.marks(0)) <= MAX_MARKS + 1
    second, shown, early = dict(times.marks(0)), 0, 0
    for offset in range(count):
        shown = second.get(offset, shown)
        too_early = 1000 + wait * offset - shown
        assert 0 <= too_early < 2 * times.step and (too_early == 0 or offset < times.exact_from)
        early = max(early, too_early)
    assert times.exact_from <= count - MAX_MARKS // 4
    assert early >= times.step / 2 and times.step <= 4 * wait * count / (MAX_MARKS / 4)


def test_marks_that_are_passed_on_stay_as_exact_as_they_were():
    """Those of bytes that come from the archive, before the others or after them."""
    times = ByteTimes()
    times.extend([(0, 10), (5, 20)], 5)
    times.extend([(9, 30)], 0)
    assert (times.marks(0), times.exact_from) == ([(0, 10), (5, 20), (9, 30)], 5)
    times.prepend([(-3, 1)], -1)
    assert times.exact_from == 5


def test_earlier_bytes_are_added_in_front():
    """However many there are; memory stays bounded."""
    times = ByteTimes()
    times.note(100, 50)
    times.prepend([(0, 10), (40, 20)])
    assert times.marks(30) == [(30, 10), (40, 20), (100, 50)]
    times.prepend([(offset, 5 + offset) for offset in range(-3 * MAX_MARKS, 0)])
    marks = times.marks(-4 * MAX_MARKS)
    assert marks[0][1] == UNKNOWN and marks[1] == (-3 * MAX_MARKS, 5 - 3 * MAX_MARKS)
    assert len(marks) <= MAX_MARKS + 1 and marks[-3:] == [(0, 10), (40, 20), (100, 50)]
    empty = ByteTimes()
    empty.prepend([(0, 10)])
    empty.note(5, 10.9)
    assert empty.marks(0) == [(0, 10)] and empty.newest == 0
