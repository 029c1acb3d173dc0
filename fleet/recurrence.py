"""The times of a schedule: a cron expression of five fields, in the local time of a time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

# croniter accepts more than cron does: seconds, years, random and hashed times.
_FIELD = re.compile(r"(?:[0-9*,/#-]|[A-Z]{3}|L)+", re.IGNORECASE)
_FIELDS = 5
MAX_CHARACTERS = 200


class RecurrenceError(ValueError):
    """The expression or the time zone is invalid; the text says why."""


def time_zone(name: str) -> ZoneInfo:
    """The time zone of the IANA database with this name. Raises RecurrenceError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # a path, a folder of zones, an unknown name
        raise RecurrenceError(f"Time zone not found: {name!r}. A valid name is Europe/Berlin.") from error


def next_times(cron: str, zone: str, after: datetime, count: int = 1) -> list[datetime]:
    """The next times after a moment, in UTC. Raises RecurrenceError, also when no day ever matches.

    Where clocks are put forward, a skipped time moves to the end of the gap. Where clocks are put back, a named hour
    occurs once, and every hour (`*`) each time.
    """
    fields = cron.split()
    if len(cron) > MAX_CHARACTERS or len(fields) != _FIELDS or not all(map(_FIELD.fullmatch, fields)):
        raise RecurrenceError(f"{cron!r} is not five fields: minute, hour, day of the month, month, day of the week.")
    names_hours = not fields[1].startswith("*")
    found: list[datetime] = []
    try:
        times = croniter(" ".join(fields), after.astimezone(time_zone(zone)))
        while len(found) < count:
            at: datetime = times.get_next(datetime)
            if not (names_hours and at.fold):
                found.append(at.astimezone(UTC))
    except CroniterBadDateError as error:
        raise RecurrenceError(f"{cron!r} never matches a day.") from error
    except CroniterBadCronError as error:
        raise RecurrenceError(f"{cron!r} is not a valid cron expression: {error}.") from error
    return found
