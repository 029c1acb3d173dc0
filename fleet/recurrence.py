"""The times of a schedule: a cron expression of five fields, in the local time of a time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

# croniter accepts more than cron does: seconds, years, random and hashed times.
_FIELD = re.compile(r"(?:[0-9*,/#-]|[A-Z]{3}|L)+", re.IGNORECASE)
_RANGE = re.compile(r"0*([0-9]+|[A-Z]{3})-0*\1(?![0-9])(?:/[0-9]+)?", re.IGNORECASE)
"""A range from a value to itself, which croniter takes for every value."""
_WHOLE = ("0-59", "0-23", "1-31", "1-12", "0-6")
"""The whole range of each field."""
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

    As in Vixie cron and cronie, a day has to match both day fields when one of them begins with `*` (also `*/2`), and
    else one of the two. Where clocks are put forward, a skipped time moves to the end of the gap. Where clocks are put
    back, a named hour occurs once, and every hour (`*`) each time.
    """
    fields = cron.split()
    if len(cron) > MAX_CHARACTERS or len(fields) != len(_WHOLE) or not all(map(_FIELD.fullmatch, fields)):
        raise RecurrenceError(f"{cron!r} is not five fields: minute, hour, day of the month, month, day of the week.")
    names_hours = not fields[1].startswith("*")
    one_is_enough = not (fields[2].startswith("*") or fields[4].startswith("*"))
    expression = " ".join(map(_plain, fields, _WHOLE))
    found: list[datetime] = []
    try:
        times = croniter(expression, after.astimezone(time_zone(zone)), day_or=one_is_enough)
        while len(found) < count:
            at: datetime = times.get_next(datetime)
            if not (names_hours and at.fold):
                found.append(at.astimezone(UTC))
    except CroniterBadDateError as error:
        raise RecurrenceError(f"{cron!r} never matches a day.") from error
    except CroniterBadCronError as error:
        raise RecurrenceError(f"{cron!r} is not a valid cron expression: {error}.") from error
    return found


def _plain(field: str, whole: str) -> str:
    """The field without the forms that croniter takes for others."""
    parts = field.split(",")
    if len(parts) > 1:  # it takes a list with `*` for the other parts of the list
        parts = [part.replace("*", whole) for part in parts]
    return ",".join(_RANGE.sub(r"\1", part) for part in parts)
