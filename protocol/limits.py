"""Limits on a command: how long it may run and be silent, and what it may use. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from onsembl.protocol.usage import Usage

DAY = 24 * 3600

Seconds = Annotated[float, Meta(ge=1, le=30 * DAY)]
LimitName = Literal["wall_seconds", "idle_seconds", "tokens", "cost_usd"]


class CommandLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a command may take. None is no limit.

    `wall_seconds` counts from its start, `idle_seconds` from its last output. `tokens` are those of `Usage.tokens`;
    they and `cost_usd` bind agents whose CLI tells of them.
    """

    wall_seconds: Seconds | None = None
    idle_seconds: Seconds | None = None
    tokens: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    cost_usd: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None

    def with_defaults(self, usual: CommandLimits) -> CommandLimits:
        """These, and where there is none, those."""
        return CommandLimits(
            wall_seconds=self.wall_seconds if self.wall_seconds is not None else usual.wall_seconds,
            idle_seconds=self.idle_seconds if self.idle_seconds is not None else usual.idle_seconds,
            tokens=self.tokens if self.tokens is not None else usual.tokens,
            cost_usd=self.cost_usd if self.cost_usd is not None else usual.cost_usd,
        )


NO_LIMITS = CommandLimits()


@dataclass(slots=True)
class LimitWatch:
    """Tells when a running command has passed one of its limits. No I/O; times are of any one clock.

    Its cost it does not watch: a CLI tells that when it is done, and keeps to a limit of it by itself.
    """

    limits: CommandLimits
    started: float

    def deadline(self, last_output: float) -> float | None:
        """When to look next, if nothing is written before; None when time alone passes no limit."""
        ends: list[float] = []
        if self.limits.wall_seconds is not None:
            ends.append(self.started + self.limits.wall_seconds)
        if self.limits.idle_seconds is not None:
            ends.append(max(self.started, last_output) + self.limits.idle_seconds)
        return min(ends, default=None)

    def exceeded(self, now: float, last_output: float, usage: Usage | None) -> LimitName | None:
        """The limit that is passed; the first of them, when there are several."""
        limits = self.limits
        if limits.wall_seconds is not None and now >= self.started + limits.wall_seconds:
            return "wall_seconds"
        if limits.idle_seconds is not None and now >= max(self.started, last_output) + limits.idle_seconds:
            return "idle_seconds"
        if limits.tokens is not None and usage is not None and usage.tokens > limits.tokens:
            return "tokens"
        return None


def describe(name: LimitName, limits: CommandLimits) -> str:
    """The limit in words, for people."""
    match name:
        case "wall_seconds":
            return f"it ran for more than {_span(limits.wall_seconds)}"
        case "idle_seconds":
            return f"it wrote nothing for {_span(limits.idle_seconds)}"
        case "tokens":
            return f"it used more than {limits.tokens:,} tokens" if limits.tokens else "it used too many tokens"
        case "cost_usd":
            return f"it cost more than ${limits.cost_usd:,.2f}" if limits.cost_usd else "it cost too much"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "it may"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
