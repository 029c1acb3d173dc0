"""Limits of a command: its working time, the time without output, the time for which it waits for a person, its tokens
and its cost. Times in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from onsembl.protocol.usage import Usage
from onsembl.protocol.vendor_limits import OnLimit
from onsembl.protocol.work_clock import WorkClock

DAY = 24 * 3600

Seconds = Annotated[float, Meta(ge=1, le=30 * DAY)]
LimitName = Literal["work_seconds", "idle_seconds", "waiting_seconds", "tokens", "cost_usd"]
SentLimitName = Literal["wall_seconds", "work_seconds", "idle_seconds", "waiting_seconds", "tokens", "cost_usd"]
"""A limit's name in a message: the previous release knows `work_seconds` only by its old name."""


def sent(name: LimitName) -> SentLimitName:
    """A limit's name in a message, also to the previous release."""
    return "wall_seconds" if name == "work_seconds" else name


def received(name: SentLimitName) -> LimitName:
    """The name of a limit in a message, also of the previous release."""
    return "work_seconds" if name == "wall_seconds" else name


class CommandLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of a command; None means no limit.

    `work_seconds` counts from the command's start, `idle_seconds` from its last output; both stand still while the
    command only waits for a person. `waiting_seconds` limits the time for which one of its requests is open. `tokens`
    limits `Usage.tokens`. Token and cost limits apply only to CLIs that report usage. An agent ignores a limit that it
    does not know yet; the server enforces it. `on_limit` says what becomes of the command at a usage limit of the CLI's
    vendor: it waits for the reset, which is the default, or fails. `wall_seconds` is the old name of `work_seconds`,
    which is read for one release, and never written.
    """

    work_seconds: Seconds | None = None
    idle_seconds: Seconds | None = None
    waiting_seconds: Seconds | None = None
    tokens: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    cost_usd: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    on_limit: OnLimit | None = None
    wall_seconds: Annotated[
        Seconds | None, Meta(description="The old name of `work_seconds`.", extra_json_schema={"deprecated": True})
    ] = None

    def __post_init__(self) -> None:
        if self.wall_seconds is not None:
            both = [limit for limit in (self.work_seconds, self.wall_seconds) if limit is not None]
            msgspec.structs.force_setattr(self, "work_seconds", min(both))
            msgspec.structs.force_setattr(self, "wall_seconds", None)

    def with_defaults(self, defaults: CommandLimits) -> CommandLimits:
        """These limits; each one that is None comes from `defaults`."""
        return CommandLimits(
            work_seconds=self.work_seconds if self.work_seconds is not None else defaults.work_seconds,
            idle_seconds=self.idle_seconds if self.idle_seconds is not None else defaults.idle_seconds,
            waiting_seconds=self.waiting_seconds if self.waiting_seconds is not None else defaults.waiting_seconds,
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
    """Detects when a running command exceeds one of its limits. No I/O; times are of the clock's.

    The cost is not watched: a CLI reports it only at its end, and enforces a cost limit itself.
    """

    limits: CommandLimits
    clock: WorkClock

    def deadline(self, last_output: float) -> float | None:
        """When a time limit is exceeded unless something happens before; None without such a limit."""
        return min((end for _, end in self._deadlines(last_output)), default=None)

    def exceeded(self, now: float, last_output: float, usage: Usage | None) -> LimitName | None:
        """The limit that is exceeded, the first of several; None when there is none."""
        for name, end in self._deadlines(last_output):
            if now >= end:
                return name
        limit = self.limits.tokens
        return "tokens" if limit is not None and usage is not None and usage.tokens > limit else None

    def _deadlines(self, last_output: float) -> Iterator[tuple[LimitName, float]]:
        limits, clock = self.limits, self.clock
        if not clock.stands_still:
            if limits.work_seconds is not None:
                yield "work_seconds", clock.counts_from + limits.work_seconds
            if limits.idle_seconds is not None:
                yield "idle_seconds", max(clock.active_at, last_output) + limits.idle_seconds
        if limits.waiting_seconds is not None and clock.waits_since is not None:
            yield "waiting_seconds", clock.waits_since + limits.waiting_seconds


def describe(name: LimitName, limits: CommandLimits) -> str:
    """A sentence without its end, for people: that the command exceeded this limit."""
    match name:
        case "work_seconds":
            return f"it worked for more than {span(limits.work_seconds)}"
        case "idle_seconds":
            return f"it wrote nothing for {span(limits.idle_seconds)}"
        case "waiting_seconds":
            return f"nobody answered its request for {span(limits.waiting_seconds)}"
        case "tokens":
            return f"it used more than {limits.tokens:,} tokens" if limits.tokens else "it used too many tokens"
        case "cost_usd":
            return f"it cost more than ${limits.cost_usd:,.2f}" if limits.cost_usd else "it cost too much"


def span(seconds: float | None) -> str:
    """A length of time for people."""
    if seconds is None:
        return "it may"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
