"""Limits of commands: which limit applies, and when a command has exceeded it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.limits import (
    NO_LIMITS,
    CommandLimits,
    LimitWatch,
    RequestedLimits,
    describe,
    received,
    sent,
)
from onsembl.protocol.usage import Usage
from onsembl.protocol.work_clock import WorkClock

some_limits = st.builds(
    CommandLimits,
    work_seconds=st.none() | st.floats(1, 1000),
    idle_seconds=st.none() | st.floats(1, 1000),
    waiting_seconds=st.none() | st.floats(1, 1000),
    tokens=st.none() | st.integers(1, 10**9),
    cost_usd=st.none() | st.floats(0.01, 1000),
)


@given(some_limits, some_limits)
def test_what_is_not_said_is_as_usual(said, usual):
    """An unset limit takes the default, and a set limit does not."""
    both = said.with_defaults(usual)
    for name in CommandLimits.__struct_fields__:
        own = getattr(said, name)
        assert getattr(both, name) == (own if own is not None else getattr(usual, name))
    assert said.with_defaults(NO_LIMITS) == said


@given(some_limits, st.lists(st.floats(0.001, 500), max_size=20))
def test_a_watch_that_is_looked_at_when_it_says_misses_nothing(limits, writes):
    """A watch that is checked at its deadlines reports an exceeded time limit at its deadline, never before."""
    watch, last_output = LimitWatch(limits, WorkClock(100.0)), 0.0
    now = 100.0
    for pause in writes:
        deadline = watch.deadline(last_output)
        if deadline is not None and now + pause >= deadline:
            assert watch.exceeded(deadline, last_output, None) in ("work_seconds", "idle_seconds")
            return
        now += pause
        assert watch.exceeded(now, last_output, None) is None
        last_output = now
    assert (watch.deadline(last_output) is None) == (limits.work_seconds is None and limits.idle_seconds is None)


@given(some_limits, st.lists(st.floats(0.001, 500), max_size=20))
def test_a_watch_stands_still_with_the_clock(limits, pauses):
    """A command that alternately works and waits exceeds a limit by the time of its own kind."""
    clock = WorkClock(0.0)
    watch, now, worked = LimitWatch(limits, clock), 0.0, 0.0
    for number, pause in enumerate(pauses):
        waits = number % 2 == 1
        deadline = watch.deadline(now)
        if deadline is not None and now + pause >= deadline:
            exceeded, spent = watch.exceeded(deadline, now, None), deadline - now
            if waits:
                assert (exceeded, spent) == ("waiting_seconds", pytest.approx(limits.waiting_seconds))
            elif exceeded == "work_seconds":
                assert worked + spent == pytest.approx(limits.work_seconds)
            else:
                assert (exceeded, spent) == ("idle_seconds", pytest.approx(limits.idle_seconds))
            return
        now, worked = now + pause, worked + (0.0 if waits else pause)
        if waits:
            clock.request_closed("request", now)
        else:
            clock.request_opened("request", now)


def test_the_old_name_is_read_and_not_written():
    """`wall_seconds` is `work_seconds`, of both the narrower; messages have the name that the last release knows."""
    for written, seconds in (({"wall_seconds": 5}, 5), ({"wall_seconds": 5, "work_seconds": 9}, 5)):
        for kind in (CommandLimits, RequestedLimits):
            limits = msgspec.convert(written, kind)
            assert msgspec.to_builtins(limits) == {"work_seconds": seconds}
    assert (sent("work_seconds"), received("wall_seconds")) == ("wall_seconds", "work_seconds")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"wall_seconds": 0}, RequestedLimits)


def test_what_is_used_counts_without_what_came_from_a_cache():
    """Tokens from a cache do not count, and a limit is exceeded only above its value."""
    watch = LimitWatch(CommandLimits(tokens=100, cost_usd=1.5), WorkClock(0.0))
    used = Usage(input_tokens=50, output_tokens=40, cache_write_tokens=10, cache_read_tokens=10_000, cost_usd=1.5)
    assert watch.exceeded(1e6, 0.0, used) is None
    assert watch.exceeded(1.0, 0.0, None) is None
    assert watch.exceeded(1.0, 0.0, msgspec.structs.replace(used, output_tokens=41)) == "tokens"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("work_seconds", "it worked for more than 2 h"),
        ("idle_seconds", "it wrote nothing for 90 s"),
        ("waiting_seconds", "nobody answered its request for 8 h"),
        ("tokens", "it used more than 200,000 tokens"),
        ("cost_usd", "it cost more than $2.50"),
    ],
)
def test_a_limit_is_said_in_words(name, words):
    """An exceeded limit is described in words and readable units."""
    limits = CommandLimits(work_seconds=7200, idle_seconds=90, waiting_seconds=28_800, tokens=200_000, cost_usd=2.5)
    assert describe(name, limits) == words


@pytest.mark.parametrize("bad", [{"work_seconds": 0}, {"tokens": 1.5}, {"cost_usd": 0}, {"wall": 5}])
def test_what_is_no_limit_is_refused(bad):
    """A limit of zero, an invalid value and an unknown name are rejected."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, RequestedLimits)
