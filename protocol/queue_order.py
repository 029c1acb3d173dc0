"""The order of an agent's line: by priority, then by place, which is a command's age until somebody moves it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

Where = Literal["first", "last", "before", "after"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a waiting command stands: lower runs first, priority before place."""

    command_id: UUID
    priority: int
    place: float


def move(line: Sequence[Place], command_id: UUID, where: Where, anchor: UUID | None, newest: int) -> list[Place]:
    """What has to change for a command to stand there: usually its own place, and those of others when there is no
    number left between two.

    `line` is in its order and has the command and, where one is meant, the anchor. `newest` is the highest number that
    age has given so far: what comes later is behind it. A command takes the priority of where it goes. Raises
    LookupError for a command or an anchor that is not in the line.
    """
    moved = next((place for place in line if place.command_id == command_id), None)
    if moved is None:
        raise LookupError("the command does not wait in this line")
    others = [place for place in line if place.command_id != command_id]
    if not others:
        return []
    index = _index(others, where, anchor)
    priority = others[max(index - 1, 0) if where in ("last", "after") else index].priority
    below = others[index - 1].place if index > 0 and others[index - 1].priority == priority else None
    above = others[index].place if index < len(others) and others[index].priority == priority else None
    place = _between(below, above, newest)
    if place is not None:
        return [replace(moved, priority=priority, place=place)]
    order = [other for other in others if other.priority == priority]
    order.insert(index - sum(other.priority < priority for other in others), replace(moved, priority=priority))
    first = math.floor(max(other.place for other in order)) - len(order) + 1
    return [replace(other, place=float(first + number)) for number, other in enumerate(order)]


def _index(others: Sequence[Place], where: Where, anchor: UUID | None) -> int:
    if where == "first":
        return 0
    if where == "last":
        return len(others)
    for index, other in enumerate(others):
        if other.command_id == anchor:
            return index if where == "before" else index + 1
    raise LookupError("the other command does not wait in this line")


def _between(below: float | None, above: float | None, newest: int) -> float | None:
    """A number between two; at an end, one that leaves room. None when floating point has none."""
    if above is None:
        # Behind all that is there and before all that will come.
        below, above = max(below, newest) if below is not None else newest, newest + 1.0
    elif below is None:
        return above - 1.0
    middle = below + (above - below) / 2
    return middle if below < middle < above else None
