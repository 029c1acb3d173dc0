"""Points in time, as people write them on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str) -> datetime:
    """A type for click: so long ago (`90m`, `36h`, `7d`, `2w`), or a date or time (`2026-01-31`,
    `2026-01-31T12:00:00Z`), this machine's when it names no offset. In UTC."""
    if (ago := re.fullmatch(r"(\d{1,6})([mhdw])", text)) is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        reason = f"{text!r} is neither a time (2026-01-31T12:00:00Z) nor so long ago (90m, 36h, 7d, 2w)."
        raise click.BadParameter(reason) from error
