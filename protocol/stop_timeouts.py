"""How much patience there is with a program that is to stop. Times in seconds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Patience = Annotated[float, Meta(ge=0, le=3600)]


class StopTimeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each rung of the ladder has before the next is climbed."""

    interrupt: Patience = 5.0
    """The CLI's own way: what a person would press."""
    sigint: Patience = 0.0
    sigterm: Patience = 10.0
    sigkill: Patience = 1.0
    sweep: Patience = 5.0
    """A kill to each process that left the group."""

    def at_most(self, other: StopTimeouts) -> StopTimeouts:
        """Of each rung the shorter time."""
        mine, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return StopTimeouts(**{rung: min(time, theirs[rung]) for rung, time in mine.items()})

    @classmethod
    def within(cls, seconds: float) -> StopTimeouts:
        """The whole ladder in so many seconds, for an emergency."""
        return cls(
            interrupt=0.2 * seconds, sigint=0.0, sigterm=0.3 * seconds, sigkill=0.1 * seconds, sweep=0.4 * seconds
        )
