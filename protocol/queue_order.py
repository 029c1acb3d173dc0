"""The order of an agent's queue: by priority, then by position, which is a command's age until somebody moves it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

Destination = Literal["first", "last", "before", "after"]
"""Where a command is moved to: an end of the queue, or beside another command, the anchor."""


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A queued command and its place in the queue: the lower priority runs first, then the lower position."""

    command_id: UUID
    priority: int
    position: float


def move(
    queue: Sequence[QueueEntry], command_id: UUID, to: Destination, anchor: UUID | None, newest: int
) -> list[QueueEntry]:
    """The entries that change when a command is moved.

    Usually this is the entry of the command alone; where no number is left between its new neighbours, the entries
    around it change too. `queue` is in its order. `newest` is the highest position that age has given so far: commands
    that are sent later stay behind it. The command takes the priority of its new neighbour. Raises LookupError for a
    command or an anchor that is not in the queue.
    """
    moved = next((entry for entry in queue if entry.command_id == command_id), None)
    if moved is None:
        raise LookupError("the command is not in this queue")
    others = [entry for entry in queue if entry.command_id != command_id]
    if not others:
        return []
    index = _index(others, to, anchor)
    priority = others[max(index - 1, 0) if to in ("last", "after") else index].priority
    below = others[index - 1].position if index > 0 and others[index - 1].priority == priority else None
    above = others[index].position if index < len(others) and others[index].priority == priority else None
    position = _between(below, above, newest)
    if position is not None:
        return [replace(moved, priority=priority, position=position)]
    order = [other for other in others if other.priority == priority]
    order.insert(index - sum(other.priority < priority for other in others), replace(moved, priority=priority))
    first = math.floor(max(other.position for other in order)) - len(order) + 1
    return [replace(other, position=float(first + number)) for number, other in enumerate(order)]


def _index(others: Sequence[QueueEntry], to: Destination, anchor: UUID | None) -> int:
    if to == "first":
        return 0
    if to == "last":
        return len(others)
    for index, other in enumerate(others):
        if other.command_id == anchor:
            return index if to == "before" else index + 1
    raise LookupError("the other command is not in this queue")


def _between(below: float | None, above: float | None, newest: int) -> float | None:
    """A position between two others, or beyond an end of the queue; None when floating point has none left."""
    if above is None:
        # Behind every queued command and before every later one.
        below, above = max(below, newest) if below is not None else newest, newest + 1.0
    elif below is None:
        return above - 1.0
    middle = below + (above - below) / 2
    return middle if below < middle < above else None
