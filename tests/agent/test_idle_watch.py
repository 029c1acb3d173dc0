"""When a program waits for a person: by its call or by its silence, until it goes on or somebody types."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.drivers.idle_watch import BETWEEN_SECONDS, RANG, SILENT, SILENT_SECONDS, IdleWatch, Wait
from onsembl.agent.process.terminal_calls import BELL


def test_a_call_is_a_request_until_the_program_goes_on():
    """What it writes with the call belongs to it; later output, or a key, ends the request."""
    watch = IdleWatch(0.0)
    watch.called("Build done", 5.0)
    assert watch.poll(5.0, reads=False) == Wait("Build done")
    watch.wrote(5.5)
    assert watch.poll(6.0, reads=True) is None
    watch.wrote(9.0)
    assert watch.poll(9.0, reads=False) == "withdraw"
    watch.called(BELL, 30.0)
    assert watch.poll(30.0, reads=False) == Wait(RANG)
    watch.typed(31.0)
    assert watch.poll(31.0, reads=False) == "withdraw"
    watch.called(BELL, 31.5)
    assert watch.poll(60.0, reads=False) is None, "the bell answers a key"


def test_silence_is_a_guess():
    """A silent program counts as waiting when it reads its terminal, and only then."""
    watch = IdleWatch(0.0)
    watch.wrote(1.0)
    assert watch.poll(SILENT_SECONDS, reads=True) is None
    assert watch.poll(SILENT_SECONDS + 1, reads=False) is None
    assert watch.poll(SILENT_SECONDS + 1, reads=True) == Wait(SILENT, guess=True)
    assert watch.poll(SILENT_SECONDS + 2, reads=True) is None


def test_a_call_that_comes_too_soon_is_not_lost():
    """It waits for its time, unless the program goes on before."""
    watch = IdleWatch(0.0)
    watch.called("one", 1.0)
    assert watch.poll(1.0, reads=False) == Wait("one")
    watch.typed(2.0)
    assert watch.poll(2.0, reads=False) == "withdraw"
    watch.called("two", 3.0)
    assert watch.poll(3.0, reads=False) is None
    assert watch.poll(1.0 + BETWEEN_SECONDS, reads=False) == Wait("two")


EVENT = st.sampled_from(["call", "bell", "write", "type", "poll"])


@given(st.lists(st.tuples(EVENT, st.floats(0.0, 15.0), st.booleans()), max_size=60))
def test_any_order_of_events(events):
    """There is one open request at most, one in `BETWEEN_SECONDS`, and none after a key."""
    watch, now, opened, last, typed = IdleWatch(0.0), 0.0, False, -BETWEEN_SECONDS, False
    for event, later, reads in events:
        now += later
        match event:
            case "call":
                watch.called("x", now)
            case "bell":
                watch.called(BELL, now)
            case "write":
                watch.wrote(now)
            case "type":
                watch.typed(now)
                typed = opened
            case _:
                act = watch.poll(now, reads=reads)
                if isinstance(act, Wait):
                    assert not opened and now - last >= BETWEEN_SECONDS
                    opened, last = True, now
                elif act == "withdraw":
                    assert opened
                    opened = typed = False
                assert not typed, "open although somebody has typed"
