"""The plan of a drain: when each agent of an instance that stops is moved, and when the instance may end. No I/O and no
clock."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

DRAINING_PROBLEM = "urn:onsembl:problem:draining"
"""The `type` of the problem that the instance is about to stop: another one serves the request."""
FEWEST_MOVING = 8
"""At least so many agents may be on their way at a time."""
MOVE_SECONDS = 0.5
"""How long an agent and its viewers are expected to be on their way. More agents move at a time if this would take too
long."""
STUCK_SECONDS = 2.0
"""An agent that is on its way for longer holds up no other."""
SETTLE_SECONDS = 5.0
"""How long agents and viewers that were moved may take to arrive elsewhere, in seconds, after the last was moved."""


@dataclass(frozen=True, slots=True)
class DrainStep:
    """What is due at one moment of a drain."""

    move: list[UUID] = field(default_factory=list[UUID])
    """The agents to move now."""
    done: bool = False
    """Whether the instance may end, once these are moved."""


class DrainPlan:
    """Moves the agents that an instance holds, a few at a time, and waits until they are elsewhere.

    The next agent is moved when an earlier one has arrived, so the instances that take over are not flooded, and nobody
    waits behind many others. The drain ends when the instance holds nothing, at the latest `SETTLE_SECONDS` after the
    last agent was moved.
    """

    def __init__(self, held: Collection[UUID], now: float, longest: float) -> None:
        """Begin at `now`. The agents in `held` are moved within `longest` seconds; an agent is held while its
        connection, its terminal or one of its viewers is here."""
        self._waiting = list(held)
        self._deadline = now + longest
        at_a_time = len(self._waiting) * MOVE_SECONDS / longest if longest > 0 else 0.0
        self._most_moving = max(FEWEST_MOVING, math.ceil(at_a_time))
        self._moved: dict[UUID, float] = {}
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
        move = sorted(here - self._moved.keys() - set(self._waiting))
        self._waiting = [agent for agent in self._waiting if agent in here]
        if self._hurry or now >= self._deadline:
            room = len(self._waiting)
        else:
            moving = sum(agent in here and now - at < STUCK_SECONDS for agent, at in self._moved.items())
            room = max(0, self._most_moving - moving - len(move))
        move += self._waiting[:room]
        del self._waiting[:room]
        if move:
            self._moved.update(dict.fromkeys(move, now))
            self._last_move = now
        settled = not here or self._hurry or now >= self._last_move + SETTLE_SECONDS
        return DrainStep(move, done=settled and not self._waiting)
