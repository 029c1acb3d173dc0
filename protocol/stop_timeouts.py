"""The timeouts of an escalation, which stops a command. Times in seconds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

HALT_SECONDS = 2.0
"""How long an agent has for its whole escalation in an emergency stop, unless the settings say otherwise."""

Timeout = Annotated[float, Meta(ge=0, le=3600)]


class StopTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long each stage of an escalation has before the next stage begins."""

    interrupt: Timeout = 5.0
    """The CLI's own way to interrupt, such as a key that a person would press."""
    sigint: Timeout = 0.0
    sigterm: Timeout = 10.0
    sigkill: Timeout = 1.0
    sweep: Timeout = 5.0
    """SIGKILL to each process that left the process group."""

    def at_most(self, other: StopTimeouts) -> StopTimeouts:
        """For each stage, the shorter of the two timeouts."""
        mine, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return StopTimeouts(**{stage: min(timeout, theirs[stage]) for stage, timeout in mine.items()})

    @classmethod
    def within(cls, seconds: float) -> StopTimeouts:
        """Timeouts with which a whole escalation takes at most `seconds`, for an emergency stop."""
        return cls(
            interrupt=0.2 * seconds, sigint=0.0, sigterm=0.3 * seconds, sigkill=0.1 * seconds, sweep=0.4 * seconds
        )
