"""A silent peer is pinged, and counts as lost after three misses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.backoff import Backoff
from onsembl.protocol.heartbeat import Heartbeat


def test_a_silent_peer_is_lost_after_three_misses():
    """After 30 s of silence a ping follows every 10 s, and after the third miss the peer is lost."""
    heartbeat = Heartbeat(now=0)
    assert heartbeat.poll(29.9) is None
    assert [heartbeat.poll(t) for t in (30, 39.9, 40, 50, 59.9, 60)] == ["ping", None, "ping", "ping", None, "lost"]


def test_any_frame_extends_the_deadline():
    """A frame that arrives after two misses starts the count again."""
    heartbeat = Heartbeat(now=0)
    assert [heartbeat.poll(t) for t in (30, 40)] == ["ping", "ping"]
    heartbeat.received(41)
    assert heartbeat.deadline == 71
    assert [heartbeat.poll(t) for t in (70.9, 71, 81, 91, 101)] == [None, "ping", "ping", "ping", "lost"]


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 25)), max_size=60))
def test_a_peer_that_says_anything_in_time_is_never_lost(events):
    """A peer is lost only if it was silent for the whole interval and all timeouts, polled at each deadline."""
    heartbeat = Heartbeat(now=0)
    now = last_heard = 0.0
    for heard, pause in events:
        upto = now + pause
        while heartbeat.deadline <= upto:
            now = heartbeat.deadline
            if heartbeat.poll(now) == "lost":
                assert now - last_heard >= 30 + 3 * 10 - 1e-6
                return
        now = upto
        if heard:
            heartbeat.received(now)
            last_heard = now
    assert now - last_heard < 60 + 1e-6


def test_delays_grow_to_a_cap_and_start_again():
    """Each delay's bound doubles up to the cap, and a reset starts again at the first."""
    backoff = Backoff(base=1, factor=2, cap=5, uniform=lambda low, high: high)
    assert [backoff.next_delay() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next_delay() == 1


@given(st.integers(0, 10))
def test_delays_are_drawn_from_zero_to_the_bound(failures):
    """Delays have full jitter, so that clients that fail together do not reconnect together."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    backoff = Backoff(base=0.5, cap=30, uniform=uniform)
    for _ in range(failures):
        backoff.next_delay()
    assert drawn == [(0.0, min(0.5 * 2**n, 30)) for n in range(failures)]
