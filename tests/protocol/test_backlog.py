"""The backlog of the archive is bounded and in order, and holds each byte once."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.backlog import Backlog, MemoryBudget
from onsembl.protocol.messages import StreamTail
from onsembl.protocol.resume import HeldBytes, new_stream_offset, resume_offset


def backlog(limit: int = 100, budget: int = 1000, start: int = 0) -> Backlog:
    return Backlog(start, limit, MemoryBudget(budget), lambda: None)


def held_bytes(log: Backlog) -> bytes:
    waiting = log.next_batch(10**9)
    return b"".join(waiting.chunks) if waiting else b""


def test_bytes_wait_until_they_are_archived():
    """The backlog drops archived bytes, even if only a part of it or more than it has is archived."""
    log = backlog()
    log.offer(0, b"abc", 1.0)
    log.offer(3, b"def", 2.0)
    assert (log.start, log.end, held_bytes(log)) == (0, 6, b"abcdef")
    log.mark_archived(4)
    waiting = log.next_batch(100)
    assert waiting is not None and (waiting.start, waiting.chunks, waiting.times) == (4, [b"ef"], [2.0])
    log.mark_archived(2)
    assert log.start == 4
    log.mark_archived(50)
    assert (log.start, log.end, log.size) == (50, 50, 0)


def test_what_waits_can_be_read_from_any_place():
    """Any range of the backlog can be read, for viewers that need bytes before they are archived."""
    log = backlog(start=10)
    for chunk in (b"abc", b"d", b"efgh"):
        log.offer(log.end, chunk, 0)
    for start in range(10, 18):
        for limit in range(1, 10):
            assert log.read(start, limit) == b"abcdefgh"[start - 10 :][:limit]
    assert log.read(9, 5) == log.read(18, 5) == b""


def test_what_was_taken_before_is_trimmed():
    """Bytes that an agent sends again are trimmed."""
    log = backlog(start=10)
    log.offer(10, b"abc", 0)
    log.offer(8, b"__abc", 0)
    log.offer(11, b"bcd", 0)
    assert held_bytes(log) == b"abcd"
    assert not log.missed


def test_a_full_backlog_lets_bytes_go_by_and_asks_for_them_later():
    """A full backlog drops later bytes, holds at most one chunk above its bound, and requests the dropped bytes
    later."""
    log = backlog(limit=4)
    log.offer(0, b"abc", 0)
    log.offer(3, b"def", 0)
    assert log.full
    log.offer(6, b"ghi", 0)
    log.offer(9, b"jkl", 0)
    assert (held_bytes(log), log.missed) == (b"abcdef", True)
    assert log.resend_offset() is None
    log.mark_archived(6)
    assert log.resend_offset() == 6
    log.offer(12, b"in flight", 0)
    assert log.size == 0 and log.resend_offset() == 6
    log.offer(6, b"ghijkl", 0)
    assert held_bytes(log) == b"ghijkl" and log.resend_offset() is None


def test_all_together_are_bounded():
    """All streams share one bound: a stream's backlog leaves less room for the others until it is archived."""
    budget = MemoryBudget(10)
    one, two = Backlog(0, 100, budget, lambda: None), Backlog(0, 100, budget, lambda: None)
    one.offer(0, b"0123456789", 0)
    two.offer(0, b"x", 0)
    assert two.missed and two.resend_offset() is None
    one.mark_archived(10)
    assert budget.used == 0 and two.resend_offset() == 0
    two.offer(0, b"x", 0)
    two.restart(7)
    assert (two.start, two.size, budget.used) == (7, 0, 0)


def test_the_first_bytes_are_announced_and_the_next_are_not():
    """The callback is called once each time that the empty backlog receives bytes."""
    calls: list[None] = []
    log = Backlog(0, 100, MemoryBudget(100), lambda: calls.append(None))
    log.offer(0, b"a", 0)
    log.offer(1, b"b", 0)
    log.mark_archived(2)
    log.offer(2, b"c", 0)
    assert len(calls) == 2


@given(
    st.binary(max_size=300),
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 40)),
            st.tuples(st.just("archive"), st.integers(1, 60)),
            st.tuples(st.just("elsewhere"), st.integers(1, 60)),
        )
    ),
)
def test_the_archive_gets_every_byte_once_whatever_happens(whole, steps):
    """The archive gets every byte once, with a sender that goes back on request, a small backlog and another writer."""
    budget = MemoryBudget(64)
    log = Backlog(0, 32, budget, lambda: None)
    archive, sent = b"", 0

    def settle(count: int) -> None:
        nonlocal archive, sent
        waiting = log.next_batch(count)
        if waiting is not None:
            data = b"".join(waiting.chunks)
            archive += data[len(archive) - waiting.start :]
            log.mark_archived(len(archive))
        if (again := log.resend_offset()) is not None:
            sent = again

    for kind, count in steps:
        if kind == "send":
            log.offer(sent, whole[sent : sent + count], 0)
            sent = min(len(whole), sent + count)
        elif kind == "archive":
            settle(count)
        elif log.size:
            # Another process has archived some of the same bytes.
            archive = whole[: min(log.end, len(archive) + count)]
        assert archive == whole[: len(archive)]
        assert budget.used == log.size <= 32 + 40
    for _ in range(1000):
        if archive == whole:
            break
        settle(1000)
        log.offer(sent, whole[sent : sent + 10], 0)
        sent = min(len(whole), sent + 10)
    assert archive == whole


@pytest.mark.parametrize(
    ("start", "end", "archived", "held", "expected"),
    [
        (0, 10, 0, None, 0),  # this process has no bytes: the archive's end counts
        (3, 10, 5, None, 5),
        (6, 10, 5, None, None),  # the agent no longer has bytes that the archive lacks
        (3, 4, 5, None, None),  # the agent no longer has bytes that are archived
        (3, 10, 5, (5, 8, 8), 8),  # the backlog continues the archive
        (3, 10, 6, (5, 8, 8), 8),
        (7, 10, 6, (5, 8, 8), 8),
        (3, 10, 9, (5, 8, 8), 9),  # another process has archived more
        (3, 10, 4, (5, 8, 8), 4),  # the backlog does not continue the archive
        (3, 10, 5, (5, 6, 9), 6),  # viewers have seen more than the backlog
        (3, 8, 5, (5, 6, 9), None),  # and the agent no longer has some of it
        (0, 10, 5, (5, 5, 5), 5),
    ],
)
def test_where_an_agent_goes_on(start, end, archived, held, expected):
    """An agent resumes at the first byte that is neither archived nor certain to be archived."""
    stream = uuid4()
    mine = HeldBytes(stream, *held) if held else None
    tail = StreamTail(id=stream, start=start, end=end)
    assert resume_offset(tail, archived, mine) == expected
    if held is None:
        assert resume_offset(tail, archived, HeldBytes(uuid4(), 0, 99, 99)) == expected


@pytest.mark.parametrize(
    ("start", "sent_end", "end", "archived", "expected"),
    [
        (3, 8, 10, 5, 5),
        (3, 8, 10, 9, 8),  # bytes that were written since are not in the archive
        (3, 8, 10, 1, 3),  # the bytes between are lost
        (3, 8, 10, 0, 3),  # a stream that the server does not know
        (3, None, 10, 5, 3),  # an agent of the first release begins with all it has
    ],
)
def test_a_new_stream_begins_with_the_first_byte_that_the_archive_lacks(start, sent_end, end, archived, expected):
    """It never begins before the archive's end, nor after bytes that were not sent."""
    tail = StreamTail(id=uuid4(), start=start, end=end, sent_end=sent_end)
    assert new_stream_offset(tail, archived) == expected
    if sent_end is not None and archived > sent_end:
        assert resume_offset(tail, archived, None) is None
