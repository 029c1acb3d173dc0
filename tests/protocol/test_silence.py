"""What silence of an agent is unusual."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.silence import FEWEST_PAUSES, LEAST_SILENCE, TurnTimes, is_unusual, usual_silence

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def turn(*pauses: float) -> TurnTimes:
    """A turn with these pauses, in seconds."""
    signs = [NOW]
    for pause in pauses:
        signs.append(signs[-1] + timedelta(seconds=pause))
    return TurnTimes(signs)


@given(st.lists(st.lists(st.integers(0, 10_000), max_size=40), max_size=5), st.randoms())
def test_one_pause_in_twenty_is_longer_than_usual(turns, random):
    """At most one of twenty pauses is longer than the usual one, which is one of them; the pauses between turns, and
    the order of signs, do not count."""
    times = [turn(*pauses) for pauses in turns]
    shuffled = [TurnTimes(random.sample(list(one.signs), len(one.signs))) for one in times]
    pauses = [pause for pauses in turns for pause in pauses]
    usual = usual_silence(shuffled)
    if len(pauses) < FEWEST_PAUSES:
        assert usual is None
        return
    assert usual is not None
    assert usual.total_seconds() in pauses
    longer = sum(pause > usual.total_seconds() for pause in pauses)
    assert longer <= len(pauses) / 20
    at_least = sum(pause >= usual.total_seconds() for pause in pauses)
    assert at_least > len(pauses) / 20 or longer == 0


def test_a_pause_for_a_person_is_no_silence():
    """A pause in which a request was open does not count, whenever in it; one that ends where the wait begins does."""
    pauses = [10.0] * 19 + [500.0]
    times = turn(*pauses)
    begun = times.signs[-2]
    assert usual_silence([times, turn(*[10.0] * 5), turn(*[500.0] * 5)]) == timedelta(seconds=500)
    waits = [(begun + timedelta(seconds=1), begun + timedelta(seconds=2))]
    assert usual_silence([TurnTimes(times.signs, waits)]) is None
    later = [(times.signs[-1], times.signs[-1] + timedelta(hours=1))]
    assert usual_silence([TurnTimes(times.signs, later)]) == timedelta(seconds=10)


def test_a_silence_is_unusual_when_that_is_known():
    """It is longer than the usual pause, than a minute, and something is known."""
    for silent, usual, expected in [
        (3600, None, False),
        (59, 1, False),
        (60, 1, False),
        (61, 1, True),
        (61, 60, True),
        (300, 300, False),
        (301, 300, True),
    ]:
        known = timedelta(seconds=usual) if usual is not None else None
        assert is_unusual(timedelta(seconds=silent), known) is expected, (silent, usual)
    assert timedelta(seconds=60) == LEAST_SILENCE
