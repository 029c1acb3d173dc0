"""The emergency stop and the end of an agent on its WebSocket; see `messages` for what is said around them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.protocol.field_types import EscalationStage, Message, Pids, Reason


class Halt(Message, tag="halt", frozen=True, kw_only=True):
    """The fleet is halted: stop whatever runs within `seconds`, and take nothing until it is lifted.

    Halts are numbered as they come. What arrives late or twice is known by its number, and changes nothing.
    """

    halt_id: UUID
    number: int
    seconds: Annotated[float, Meta(gt=0)]
    reason: Reason | None = None


class HaltLifted(Message, tag="halt_lifted", frozen=True, kw_only=True):
    """The halt of this number, and each before it, is over."""

    number: int


class Leave(Message, tag="leave", frozen=True, kw_only=True):
    """End in good order: what runs is stopped and reported. With `restart` the agent's program starts anew."""

    restart: bool


HaltProgressState = Literal["stopping", "stopped", "dying"]


class HaltProgress(Message, tag="halt_progress", frozen=True, kw_only=True):
    """How far an agent has come with a halt: said at each rung, and at last that nothing runs.

    `stopped` is said when no process of any command is left. `dying`: the ladder is at its end, these would not die,
    and they are killed again until they do.
    """

    halt_id: UUID
    state: HaltProgressState
    at: datetime
    step: EscalationStage | None = None
    processes_left: Annotated[int, Meta(ge=0)] = 0
    pids: Pids = []
