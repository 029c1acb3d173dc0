"""When the bytes of a stream were received."""

from __future__ import annotations

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


def test_the_oldest_marks_are_dropped():
    """Memory is bounded: bytes whose mark was dropped are of an unknown second, and the newest marks are kept."""
    times = ByteTimes()
    for second in range(1, 3 * MAX_MARKS):
        times.note(second, second)
    marks = times.marks(1)
    assert len(marks) <= MAX_MARKS + 1
    assert marks[0] == (1, UNKNOWN) and marks[-1] == (times.newest, 3 * MAX_MARKS - 1)


def test_earlier_bytes_are_added_in_front():
    """Marks of earlier bytes are added as far as there is room, the latest of them first."""
    times = ByteTimes()
    times.note(100, 50)
    times.prepend([(0, 10), (40, 20)])
    assert times.marks(30) == [(30, 10), (40, 20), (100, 50)]
    times.prepend([(offset, 5) for offset in range(-2 * MAX_MARKS, 0)])
    assert len(times.marks(-3 * MAX_MARKS)) == MAX_MARKS + 1
    empty = ByteTimes()
    empty.prepend([(0, 10)])
    empty.note(5, 10.9)
    assert empty.marks(0) == [(0, 10)] and empty.newest == 0
