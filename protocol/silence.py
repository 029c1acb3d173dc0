"""Whether an agent that works is silent for longer than it usually is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

USUAL_SHARE = 0.95
FEWEST_PAUSES = 20
"""With fewer pauses nothing is known of what is usual."""
LEAST_SILENCE = timedelta(seconds=60)
"""A shorter silence is never told."""


@dataclass(frozen=True, slots=True)
class TurnTimes:
    """When the steps of a turn began or ended, and the spans in which it waited for a person."""

    signs: Sequence[datetime]
    waits: Sequence[tuple[datetime, datetime]] = ()


def usual_silence(turns: Sequence[TurnTimes]) -> timedelta | None:
    """The pause between two signs of life that 95 % of the pauses in these turns did not exceed (nearest rank); None
    where too few are known. Pauses in which a person was waited for do not count."""
    pauses: list[timedelta] = []
    for turn in turns:
        signs = sorted(turn.signs)
        for earlier, later in pairwise(signs):
            if not any(begun < later and ended > earlier for begun, ended in turn.waits):
                pauses.append(later - earlier)
    if len(pauses) < FEWEST_PAUSES:
        return None
    return sorted(pauses)[math.ceil(USUAL_SHARE * len(pauses)) - 1]


def is_unusual(silent: timedelta, usual: timedelta | None) -> bool:
    """Whether a silence is longer than usual, as far as that is known."""
    return usual is not None and silent > max(usual, LEAST_SILENCE)
