"""The times of a cron expression in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

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
        ("30 2 * * *", "2026-03-28T12:00", ["29.03. 03:00 +0200", "30.03. 02:30 +0200"]),
        ("30 2 * * *", "2026-10-24T12:00", ["25.10. 02:30 +0200", "26.10. 02:30 +0100"]),
        ("30 * * * *", "2026-10-24T23:40", ["25.10. 02:30 +0200", "25.10. 02:30 +0100", "25.10. 03:30 +0100"]),
    ],
)
def test_times_are_those_of_the_wall_clock(cron, after, times):
    """Times follow the wall clock: on working days, on leap days and in the two nights when clocks change."""
    assert local(cron, after, len(times)) == times


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
