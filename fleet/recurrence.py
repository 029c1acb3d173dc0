"""When a schedule comes: a cron expression of five fields, as people read a clock in a time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

# croniter knows more than cron does: seconds, years, random and hashed times.
_FIELD = re.compile(r"(?:[0-9*,/#-]|[A-Z]{3}|L)+", re.IGNORECASE)
_FIELDS = 5
MAX_CHARACTERS = 200


class RecurrenceError(ValueError):
    """No time can be told by that; the text says why."""


def time_zone(name: str) -> ZoneInfo:
    """A time zone of the IANA's database, by name. Raises RecurrenceError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # a path, a folder of them, and what is none
        raise RecurrenceError(f"There is no time zone {name!r}; one is named like Europe/Berlin.") from error


def next_times(cron: str, zone: str, after: datetime, count: int = 1) -> list[datetime]:
    """The next times after a moment, in UTC. Raises RecurrenceError, also when no such day ever comes.

    Where clocks are put forward, a time that is skipped comes at the end of the gap; where they are put back, an hour
    that is named comes once, and every hour (`*`) each time.
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
        raise RecurrenceError(f"{cron!r} never comes.") from error
    except CroniterBadCronError as error:
        raise RecurrenceError(f"{cron!r} cannot be read: {error}.") from error
    return found
