"""Messages about a command between the server and its agent. `messages` has the whole protocol."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.protocol.field_types import (
    MAX_TEXT,
    NO_NUL,
    Bounded,
    Count,
    EscalationStage,
    Int32,
    Message,
    OffsetField,
    Pids,
    Processes,
    Reason,
    ShortText,
    Time,
)
from onsembl.protocol.limits import NO_LIMITS, CommandLimits, SentLimitName
from onsembl.protocol.request_ids import RequestId
from onsembl.protocol.turn_messages import TurnReport, TurnSettings
from onsembl.protocol.turn_steps import StepNumber
from onsembl.protocol.usage import Usage

# Server to agent


class Offer(Message, tag="offer", frozen=True, kw_only=True):
    """Run this command. An offer is repeated after a reconnect: a known id is accepted again, but not run again."""

    command_id: UUID
    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT, pattern=NO_NUL)]
    limits: CommandLimits = NO_LIMITS
    turn: TurnSettings | None = None
    """How a coding CLI is started; None for a command line."""
    request_id: RequestId | None = None
    """The id of the REST request that sent the command, for the agent's log."""
    problems: Count = 0
    """The `number` of the last `problem` that the server had applied. The agent ignores an offer with an earlier one,
    because its command may be back in the queue by now."""

    @property
    def prompt(self) -> str:
        """The text for a coding CLI, with what goes before it in this turn."""
        preface = self.turn.preface if self.turn is not None else None
        return self.text if preface is None else f"{preface}\n\n{self.text}"


class Steer(Message, tag="steer", frozen=True, kw_only=True):
    """Put this text into the running turn of the command; it is the queued command `steer_id`.

    It is repeated after a reconnect: a known text is reported again, but not put into the turn again.
    """

    command_id: UUID
    steer_id: UUID
    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT, pattern=NO_NUL)]


class EndRecorded(Message, tag="end_recorded", frozen=True, kw_only=True):
    """The server has recorded the command's end; the agent may drop it."""

    command_id: UUID


class Cancel(Message, tag="cancel", frozen=True, kw_only=True):
    """Stop the command by an escalation. A repeated cancel, or one of an ended command, changes nothing.

    With `limit`, the command has exceeded that limit and the agent has not enforced it.
    """

    command_id: UUID
    reason: Reason | None = None
    limit: SentLimitName | None = None


# Agent to server


MAX_STEPS = 8
"""The most stages that one end may have; an escalation has fewer."""
MAX_STEERS = 100
"""The most texts that are put into one turn."""
Outcome = Literal["succeeded", "failed", "cancelled", "timed_out", "lost"]


class SteerFate(Bounded, frozen=True, kw_only=True):
    """The fate of a text that the agent was to put into a turn.

    `taken`: the CLI has taken it, at this `step` of the turn. `late`: the turn ended before the CLI took it. `unknown`:
    the agent was killed after it gave the text to the CLI.
    """

    steer_id: UUID
    state: Literal["taken", "late", "unknown"]
    step: StepNumber | None = None


class Steered(Message, tag="steered", frozen=True, kw_only=True):
    """The CLI has taken the text `steer_id`, at this step of the command's turn. It is not repeated: the command's end
    has it again."""

    command_id: UUID
    steer_id: UUID
    step: StepNumber


class CancelStep(Message, tag="cancel_step", frozen=True, kw_only=True):
    """An escalation reached a stage; `processes_left` processes of the command were alive just after it."""

    command_id: UUID
    step: EscalationStage
    at: Time
    processes_left: Processes
    pids: Pids = []
    """The processes that survive the last stage, when `step` is `failed`."""
    limit: SentLimitName | None = None
    """The exceeded limit, if the command is stopped for it."""


class Ended(Message, tag="ended", frozen=True, kw_only=True):
    """A command's end, repeated after each reconnect until `end_recorded` comes.

    `cancelled` means that no process of the command is left. `exit_code` is None when a signal ended the program;
    `signal` is its number. The command's output is the half-open range from `output_start` to `output_end`, counted by
    the stream `stream_id` as in `accepted`. A command that timed out exceeded `limit`. `steps` has all stages of the
    escalation again, also those that were reached without a connection. `steers` has the fate of each text that the
    agent was to put into the turn; without it, the agent does not know. `last_line` is the last line of the output of a
    command without steps. `branch` is the git branch of the agent's folder, now.
    """

    command_id: UUID
    outcome: Outcome
    started_at: Time | None = None
    ended_at: Time
    exit_code: Int32 | None = None
    signal: Int32 | None = None
    error: ShortText | None = None
    stream_id: UUID | None = None
    output_start: OffsetField | None = None
    output_end: OffsetField | None = None
    usage: Usage | None = None
    turn: TurnReport | None = None
    limit: SentLimitName | None = None
    steps: Annotated[list[CancelStep], Meta(max_length=MAX_STEPS)] = []
    steers: Annotated[list[SteerFate], Meta(max_length=MAX_STEERS)] | None = None
    last_line: ShortText = ""
    branch: ShortText | None = None


class Accepted(Message, tag="accepted", frozen=True, kw_only=True):
    """The agent has the command in its journal and starts it; repeated when the command is offered again.

    `output_start` is an offset of the stream `stream_id`. All offsets of the command are counted by it, also when its
    output goes on in another stream. None comes from agents that count by their present stream.
    """

    command_id: UUID
    started_at: Time
    stream_id: UUID | None = None
    output_start: OffsetField


class LastLine(Message, tag="last_line", frozen=True, kw_only=True):
    """The last line that a running command has written, for a command whose turn has no steps: when it has changed, at
    most every two seconds. It is not repeated: the command's end has the last one."""

    command_id: UUID
    text: ShortText


class Used(Message, tag="used", frozen=True, kw_only=True):
    """The usage of the running command so far. It is not repeated: the next one, or the end, has newer usage."""

    command_id: UUID
    usage: Usage


class WorkClockState(Message, tag="work_clock", frozen=True, kw_only=True):
    """The working time of the running command stands still, or goes on: while it stands still, the command only waits
    for a person. `stood_still_seconds` is how long that was so far. The agent repeats the state on each connection."""

    command_id: UUID
    stands_still: bool
    stood_still_seconds: Annotated[float, Meta(ge=0, le=2**40)]
