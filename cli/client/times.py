"""Points in time, as people write them on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str) -> datetime:
    """A type for click: so long ago (`90m`, `36h`, `7d`, `2w`), or a date or time (`2026-01-31`,
    `2026-01-31T12:00:00Z`), this machine's when it names no offset. In UTC."""
    return _moment(text, -1, "nor so long ago")


def coming(text: str) -> datetime:
    """The same for what is to come: `90m` is so long from now."""
    return _moment(text, 1, "nor so long from now")


def _moment(text: str, sign: int, otherwise: str) -> datetime:
    if (span := re.fullmatch(r"(\d{1,6})([mhdw])", text)) is not None:
        return datetime.now(UTC) + sign * timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        reason = f"{text!r} is neither a time (2026-01-31T12:00:00Z) {otherwise} (90m, 36h, 7d, 2w)."
        raise click.BadParameter(reason) from error
