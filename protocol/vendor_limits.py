"""The usage limits of a coding CLI's vendor: the windows of a plan, and when an agent that has reached one goes on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta

from onsembl.protocol.field_types import END, Bounded, ShortText, Time

MAX_WINDOWS = 16
MARGIN = timedelta(seconds=60)
"""How long after a window's reset an agent goes on."""
LONGEST_PAUSE = timedelta(hours=1)
"""The longest time that an agent waits beyond the word of its vendor."""
FURTHEST = timedelta(days=8)
"""No window is longer than a week: a later reset is not believed."""
MAX_CONTINUATIONS = 20
"""How often a command is sent again because its turn ended at a limit."""

WindowStatus = Literal["allowed", "warning", "rejected"]
OnLimit = Literal["wait", "fail"]


class RateWindow(Bounded, frozen=True, kw_only=True, omit_defaults=True):
    """A window of a plan, by the vendor's name. `used` is the used share: 1 is all of it."""

    name: ShortText
    status: WindowStatus = "allowed"
    used: Annotated[float, Meta(ge=0, le=1000)] | None = None
    resets_at: Time | None = None


class VendorLimit(Bounded, frozen=True, kw_only=True, omit_defaults=True):
    """A turn ended because its CLI may use no more. `untouched` is true when the turn had done nothing before. `model`
    is part of the names of the models that the limit is of; None when it is of all."""

    resets_at: Time | None = None
    untouched: bool = False
    model: Annotated[str, Meta(max_length=64, pattern="^[a-z0-9.-]{1,64}" + END)] | None = None


def resume_at(now: datetime, resets_at: datetime | None, strikes: int) -> datetime:
    """When an agent that has reached a limit goes on: some time after the reset that its vendor names.

    `strikes` is how often it has reached a limit since its last successful turn. Each doubles the shortest pause, up to
    `LONGEST_PAUSE`, so that a vendor whose clock is wrong is not asked over and over. No pause is longer than
    `FURTHEST`.
    """
    latest = now + FURTHEST
    earliest = now + min(MARGIN * 2 ** min(max(strikes, 0), 12), LONGEST_PAUSE)
    if resets_at is None or resets_at <= now:
        return earliest
    return max(earliest, min(resets_at, latest - MARGIN) + MARGIN)
