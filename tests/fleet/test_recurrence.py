"""The times of a cron expression in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onsembl.fleet.recurrence import RecurrenceError, next_times

BERLIN = ZoneInfo("Europe/Berlin")


def local(cron: str, after: str, count: int, zone: str = "Europe/Berlin") -> list[str]:
    """The times as a wall clock shows them."""
    times = next_times(cron, zone, datetime.fromisoformat(after).replace(tzinfo=UTC), count)
    return [f"{time.astimezone(ZoneInfo(zone)):%d.%m. %H:%M %z}" for time in times]


@pytest.mark.parametrize(
    ("cron", "after", "times"),
    [
        ("30 6 * * mon-fri", "2026-01-02T12:00", ["05.01. 06:30 +0100", "06.01. 06:30 +0100"]),
        ("*/20 8 1 * *", "2026-01-02T12:00", ["01.02. 08:00 +0100", "01.02. 08:20 +0100"]),
        ("0 0 29 2 *", "2026-01-02T12:00", ["29.02. 00:00 +0100"]),
        ("5-05/2 9-9 * jan-JAN mon-mon", "2026-01-02T12:00", ["05.01. 09:05 +0100", "12.01. 09:05 +0100"]),
        ("0-10/10 1-11/9 * * *", "2026-01-02T12:00", ["03.01. 01:00 +0100", "03.01. 01:10 +0100"]),
        ("30 2 * * *", "2026-03-28T12:00", ["29.03. 03:00 +0200", "30.03. 02:30 +0200"]),
        ("30 2 * * *", "2026-10-24T12:00", ["25.10. 02:30 +0200", "26.10. 02:30 +0100"]),
        ("30 * * * *", "2026-10-24T23:40", ["25.10. 02:30 +0200", "25.10. 02:30 +0100", "25.10. 03:30 +0100"]),
    ],
)
def test_times_are_those_of_the_wall_clock(cron, after, times):
    """Times follow the wall clock: on working days, on leap days and in the two nights when clocks change."""
    assert local(cron, after, len(times)) == times


def day_fields(first: int, last: int) -> st.SearchStrategy[str]:
    """A day field of cron: days, ranges, steps and lists of these."""
    day = st.integers(first, last)
    span = st.tuples(day, day).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    whole = st.sampled_from(["*", f"{first}-{last}"])
    step = st.tuples(st.one_of(span, whole), st.integers(1, 7)).map(lambda part: f"{part[0]}/{part[1]}")
    return st.lists(st.one_of(day.map(str), span, step, whole), min_size=1, max_size=3).map(",".join)


def days_of(field: str, first: int, last: int) -> set[int]:
    """The days that a field names."""
    days: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = (f"{first}-{last}" if span == "*" else span).partition("-")
        days |= set(range(int(low), int(high or low) + 1, int(step or 1)))
    return days


@given(day_fields(1, 28), day_fields(0, 6))
@example("*/2", "1")
@example("*/1", "1")
@example("*,3", "1")
@example("1-31", "1")
@example("1", "0-6")
@example("1", "*/2")
@example("1,15", "1")
def test_the_day_fields_are_those_of_vixie_cron(day_of_month, day_of_week):
    """A day matches both day fields if one begins with an asterisk, and else one of the two."""
    month, week = days_of(day_of_month, 1, 31), days_of(day_of_week, 0, 6)
    both = day_of_month.startswith("*") or day_of_week.startswith("*")
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def matches(day: datetime) -> bool:
        in_month, in_week = day.day in month, day.isoweekday() % 7 in week
        return (in_month and in_week) if both else (in_month or in_week)

    days = [day for day in (start + timedelta(days=count) for count in range(200)) if matches(day)]
    if days:  # a day of the month and of the week may be far from each other
        times = next_times(f"0 9 {day_of_month} * {day_of_week}", "UTC", start, min(5, len(days)))
        assert times == [day + timedelta(hours=9) for day in days[:5]]


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("* * * *", "UTC"),
        ("* * * * * *", "UTC"),
        ("60 * * * *", "UTC"),
        ("@daily", "UTC"),
        ("R R * * *", "UTC"),
        ("H * * * *", "UTC"),
        ("a b c d e", "UTC"),
        ("0 0 30 2 *", "UTC"),
        ("0 0 * * *", "Europe/Nowhere"),
        ("0 0 * * *", "../../etc/passwd"),
        ("0 0 * * *", "Europe"),
        ("0 0 * * *", ""),
    ],
)
def test_what_never_comes_or_cannot_be_read_is_refused(cron, zone):
    """An expression that is invalid or never matches is rejected with the reason."""
    with pytest.raises(RecurrenceError):
        next_times(cron, zone, datetime(2026, 1, 1, tzinfo=UTC))
