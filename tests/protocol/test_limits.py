"""Limits of commands: which limit applies, and when a command has exceeded it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.limits import NO_LIMITS, CommandLimits, LimitWatch, RequestedLimits, describe
from onsembl.protocol.usage import Usage

some_limits = st.builds(
    CommandLimits,
    wall_seconds=st.none() | st.floats(1, 1000),
    idle_seconds=st.none() | st.floats(1, 1000),
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
    watch, last_output = LimitWatch(limits, started=100.0), 0.0
    now = 100.0
    for pause in writes:
        deadline = watch.deadline(last_output)
        if deadline is not None and now + pause >= deadline:
            assert watch.exceeded(deadline, last_output, None) in ("wall_seconds", "idle_seconds")
            return
        now += pause
        assert watch.exceeded(now, last_output, None) is None
        last_output = now
    assert (watch.deadline(last_output) is None) == (limits.wall_seconds is None and limits.idle_seconds is None)


def test_what_is_used_counts_without_what_came_from_a_cache():
    """Tokens from a cache do not count, and a limit is exceeded only above its value."""
    watch = LimitWatch(CommandLimits(tokens=100, cost_usd=1.5), started=0.0)
    used = Usage(input_tokens=50, output_tokens=40, cache_write_tokens=10, cache_read_tokens=10_000, cost_usd=1.5)
    assert watch.exceeded(1e6, 0.0, used) is None
    assert watch.exceeded(1.0, 0.0, None) is None
    assert watch.exceeded(1.0, 0.0, msgspec.structs.replace(used, output_tokens=41)) == "tokens"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wall_seconds", "it ran for more than 2 h"),
        ("idle_seconds", "it wrote nothing for 90 s"),
        ("tokens", "it used more than 200,000 tokens"),
        ("cost_usd", "it cost more than $2.50"),
    ],
)
def test_a_limit_is_said_in_words(name, words):
    """An exceeded limit is described in words and readable units."""
    limits = CommandLimits(wall_seconds=7200, idle_seconds=90, tokens=200_000, cost_usd=2.5)
    assert describe(name, limits) == words


@pytest.mark.parametrize("bad", [{"wall_seconds": 0}, {"tokens": 1.5}, {"cost_usd": 0}, {"wall": 5}])
def test_what_is_no_limit_is_refused(bad):
    """A limit of zero, an invalid value and an unknown name are rejected."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, RequestedLimits)
