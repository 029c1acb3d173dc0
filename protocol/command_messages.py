"""One command between the server and its agent; see `messages` for what is said around it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.protocol.field_types import CommandText, EscalationStage, Message, OffsetField, Pids, Reason, ShortText
from onsembl.protocol.limits import NO_LIMITS, CommandLimits, LimitName
from onsembl.protocol.request_ids import RequestId
from onsembl.protocol.usage import Usage

# Server to agent


class Offer(Message, tag="offer", frozen=True, kw_only=True):
    """Run this command. Offered again after a reconnect: an id seen before is accepted again, not run again."""

    command_id: UUID
    text: CommandText
    limits: CommandLimits = NO_LIMITS
    request_id: RequestId | None = None
    """Of the request that it comes from, for the agent's log."""


class EndRecorded(Message, tag="end_recorded", frozen=True, kw_only=True):
    """The end of the command is written; the agent may forget it."""

    command_id: UUID


class Cancel(Message, tag="cancel", frozen=True, kw_only=True):
    """Stop the command: interrupt, then the ladder. Harmless when repeated or when the command is over.

    With `limit` it is because the command has passed one of its limits and the agent has not seen to it.
    """

    command_id: UUID
    reason: Reason | None = None
    limit: LimitName | None = None


# Agent to server


MAX_STEPS = 8
"""Rungs that one end may name; a ladder has fewer."""
Outcome = Literal["succeeded", "failed", "cancelled", "timed_out", "lost"]


class CancelStep(Message, tag="cancel_step", frozen=True, kw_only=True):
    """A rung of the ladder was climbed; `processes_left` of the command were alive just after it."""

    command_id: UUID
    step: EscalationStage
    at: datetime
    processes_left: Annotated[int, Meta(ge=0)]
    pids: Pids = []
    """Those that would not die, when the last rung has failed."""
    limit: LimitName | None = None
    """The limit that the command has passed, where that is why it is stopped."""


class Ended(Message, tag="ended", frozen=True, kw_only=True):
    """A command's end. Repeated after each reconnect until `end_recorded` comes.

    `cancelled` is said only when every process of the command is gone. `exit_code` is that of the process, or None
    when a signal ended it (`signal`, its number). Output of the command is the half-open range of the stream. What
    timed out passed a `limit`. `steps` has the rungs of the ladder that was climbed, once more: those that were taken
    while there was no connection, too.
    """

    command_id: UUID
    outcome: Outcome
    started_at: datetime | None = None
    ended_at: datetime
    exit_code: int | None = None
    signal: int | None = None
    error: ShortText | None = None
    output_start: OffsetField | None = None
    output_end: OffsetField | None = None
    usage: Usage | None = None
    limit: LimitName | None = None
    steps: Annotated[list[CancelStep], Meta(max_length=MAX_STEPS)] = []


class Accepted(Message, tag="accepted", frozen=True, kw_only=True):
    """The agent has written the command down and starts it; said again when the command is offered again."""

    command_id: UUID
    started_at: datetime
    output_start: OffsetField


class Used(Message, tag="used", frozen=True, kw_only=True):
    """What the running command has used so far. Not repeated: the next one, or the end, says more."""

    command_id: UUID
    usage: Usage
