"""The plan of a drain: when each agent of an instance that stops is moved, and when the instance may end. No I/O and no
clock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

DRAINING_PROBLEM = "urn:onsembl:problem:draining"
"""The `type` of the problem that the instance is about to stop: another one serves the request."""
SPACING_SECONDS = 0.02
"""Agents are moved at this interval, or at a shorter one if they are too many for the time there is."""
SETTLE_SECONDS = 5.0
"""How long agents and viewers that were moved may take to arrive elsewhere, in seconds, after the last was moved."""


@dataclass(frozen=True, slots=True)
class DrainStep:
    """What is due at one moment of a drain."""

    move: list[UUID] = field(default_factory=list[UUID])
    """The agents to move now."""
    done: bool = False
    """Whether the instance may end, once these are moved."""
    wait: float = 0.0
    """Seconds until the next agent is due, or the drain ends in any case."""


class DrainPlan:
    """Moves the agents that an instance holds, one after another, and waits until they are elsewhere.

    The drain ends when the instance holds nothing, at the latest `SETTLE_SECONDS` after the last agent was moved.
    """

    def __init__(self, held: Collection[UUID], now: float, longest: float) -> None:
        """Begin at `now`. The agents in `held` are moved within `longest` seconds; an agent is held while its
        connection, its terminal or one of its viewers is here."""
        self._waiting = list(held)
        self._spacing = min(SPACING_SECONDS, longest / max(1, len(self._waiting)))
        self._began = now
        self._moved: set[UUID] = set()
        self._last_move = now
        self._hurry = False

    def shorten(self) -> None:
        """Move all agents with the next step, and wait for none."""
        self._hurry = True

    def step(self, held: Collection[UUID], now: float) -> DrainStep:
        """What is due at `now`, while `held` are still here.

        An agent that has left by itself is not moved. One that has come since the drain began is moved at once.
        """
        here = set(held)
        due = len(self._waiting) if self._hurry else self._count_due(now)
        late = here - self._moved - set(self._waiting)
        move = [agent for agent in self._waiting[:due] if agent in here] + sorted(late)
        del self._waiting[:due]
        self._began += due * self._spacing
        if move:
            self._moved.update(move)
            self._last_move = now
        end = self._last_move + SETTLE_SECONDS
        if self._waiting:
            if not here:
                return DrainStep(done=True)
            return DrainStep(move, wait=max(0.0, self._began - now))
        if self._hurry or not here or now >= end:
            return DrainStep(move, done=True)
        return DrainStep(move, wait=end - now)

    def _count_due(self, now: float) -> int:
        """How many of the agents that wait are due: the first at once, each other one an interval later."""
        if now < self._began:
            return 0
        if self._spacing <= 0:
            return len(self._waiting)
        return min(len(self._waiting), 1 + int((now - self._began) / self._spacing))
