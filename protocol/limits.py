"""Limits of a command: its running time, the time without output, its tokens and its cost. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from onsembl.protocol.usage import Usage
from onsembl.protocol.vendor_limits import OnLimit

DAY = 24 * 3600

Seconds = Annotated[float, Meta(ge=1, le=30 * DAY)]
LimitName = Literal["wall_seconds", "idle_seconds", "tokens", "cost_usd"]


class CommandLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of a command; None means no limit.

    `wall_seconds` counts from the command's start, `idle_seconds` from its last output. `tokens` limits `Usage.tokens`.
    Token and cost limits apply only to CLIs that report usage. An agent ignores a limit that it does not know yet; the
    server enforces it. `on_limit` says what becomes of the command at a usage limit of the CLI's vendor: it waits for
    the reset, which is the default, or fails.
    """

    wall_seconds: Seconds | None = None
    idle_seconds: Seconds | None = None
    tokens: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    cost_usd: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    on_limit: OnLimit | None = None

    def with_defaults(self, defaults: CommandLimits) -> CommandLimits:
        """These limits; each one that is None comes from `defaults`."""
        return CommandLimits(
            wall_seconds=self.wall_seconds if self.wall_seconds is not None else defaults.wall_seconds,
            idle_seconds=self.idle_seconds if self.idle_seconds is not None else defaults.idle_seconds,
            tokens=self.tokens if self.tokens is not None else defaults.tokens,
            cost_usd=self.cost_usd if self.cost_usd is not None else defaults.cost_usd,
            on_limit=self.on_limit if self.on_limit is not None else defaults.on_limit,
        )


class RequestedLimits(CommandLimits, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits in a request, where an unknown limit is an error."""


NO_LIMITS = CommandLimits()
REQUESTED_NO_LIMITS = RequestedLimits()


@dataclass(slots=True)
class LimitWatch:
    """Detects when a running command exceeds one of its limits. No I/O; times are of any one clock.

    The cost is not watched: a CLI reports it only at its end, and enforces a cost limit itself.
    """

    limits: CommandLimits
    started: float

    def deadline(self, last_output: float) -> float | None:
        """When a time limit is exceeded unless output comes before; None without a time limit."""
        ends: list[float] = []
        if self.limits.wall_seconds is not None:
            ends.append(self.started + self.limits.wall_seconds)
        if self.limits.idle_seconds is not None:
            ends.append(max(self.started, last_output) + self.limits.idle_seconds)
        return min(ends, default=None)

    def exceeded(self, now: float, last_output: float, usage: Usage | None) -> LimitName | None:
        """The limit that is exceeded, the first of several; None when there is none."""
        limits = self.limits
        if limits.wall_seconds is not None and now >= self.started + limits.wall_seconds:
            return "wall_seconds"
        if limits.idle_seconds is not None and now >= max(self.started, last_output) + limits.idle_seconds:
            return "idle_seconds"
        if limits.tokens is not None and usage is not None and usage.tokens > limits.tokens:
            return "tokens"
        return None


def describe(name: LimitName, limits: CommandLimits) -> str:
    """A sentence without its end, for people: that the command exceeded this limit."""
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
