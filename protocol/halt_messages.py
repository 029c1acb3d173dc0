"""Messages of the emergency stop, and for the end of an agent's program. `messages` has the whole protocol."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.protocol.field_types import Count, EscalationStage, Message, Pids, Processes, Reason, Time


class Halt(Message, tag="halt", frozen=True, kw_only=True):
    """The fleet is halted: stop everything within `seconds`, and accept no command until the halt is lifted.

    Halts have ascending numbers. By its number, a halt that arrives late or twice is recognised and changes nothing.
    """

    halt_id: UUID
    number: Count
    seconds: Annotated[float, Meta(gt=0, le=24 * 3600)]
    reason: Reason | None = None


class HaltLifted(Message, tag="halt_lifted", frozen=True, kw_only=True):
    """The halts up to this number are lifted."""

    number: Count


class Leave(Message, tag="leave", frozen=True, kw_only=True):
    """Stop the running command, report its end, and exit. With `restart` the agent's program starts anew."""

    restart: bool


HaltProgressState = Literal["stopping", "stopped", "dying"]


class HaltProgress(Message, tag="halt_progress", frozen=True, kw_only=True):
    """The progress of a halt at an agent, sent at each stage of its escalation and at the end.

    `stopped`: no process of any command is left. `dying`: the processes in `pids` survive the last stage of the
    escalation, and are killed again until they end.
    """

    halt_id: UUID
    state: HaltProgressState
    at: Time
    step: EscalationStage | None = None
    processes_left: Processes = 0
    pids: Pids = []
