"""The activity of an agent: one word for what it does at present, with the reason and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from onsembl.protocol.field_types import Time


class AgentActivity(StrEnum):
    """What an agent does at present. Of those that apply, the first counts."""

    OFFLINE = "offline"
    HALTED = "halted"
    """An emergency stop is in force."""
    WAITING = "waiting"
    """It waits for a person: a request of its command is open."""
    WORKING = "working"
    PROBLEM = "problem"
    """It takes no command, as on a full disk."""
    PAUSED = "paused"
    LIMITED = "limited"
    """It has reached a usage limit of its vendor."""
    IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What is known of an agent, from which its activity follows; each time says since when it is so, and is None
    when it is not."""

    online: bool
    disconnected_at: datetime | None = None
    halted_at: datetime | None = None
    waiting: int = 0
    """Its open requests."""
    waiting_since: datetime | None = None
    waiting_title: str | None = None
    """The title of the oldest open request."""
    waiting_id: UUID | None = None
    command_id: UUID | None = None
    """Its dispatched or running command."""
    command_since: datetime | None = None
    last_sign: datetime | None = None
    """When a step of its command has changed last, or when the command has started."""
    problem: str | None = None
    problem_since: datetime | None = None
    paused_at: datetime | None = None
    paused_by_name: str | None = None
    limited_since: datetime | None = None
    limited_until: datetime | None = None


class CurrentActivity(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent does: `name`; `since` when, if it is known; `until` when, for a usage limit; and a `reason`: the
    title of the oldest open request, the problem, or who has paused the agent. `waiting` is the number of its open
    requests, also where another activity counts. `command_id` is its command, `attention_id` its oldest open
    request."""

    name: AgentActivity
    since: Time | None = None
    until: Time | None = None
    reason: str | None = None
    waiting: int = 0
    command_id: UUID | None = None
    attention_id: UUID | None = None


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A silence of an agent that works, which is longer than usual: no step of its turn has begun, changed or ended
    `since`. Of the pauses in its last 20 turns 95 % were no longer than `usual_seconds`. `doing` is the step that it is
    at, `doing_since` when that began."""

    since: Time
    usual_seconds: float
    doing: str | None
    doing_since: Time | None


def activity_of(facts: AgentFacts) -> CurrentActivity:
    """The activity of an agent."""
    return CurrentActivity(
        name=(name := _name(facts)),
        since=_since(name, facts),
        until=facts.limited_until if name is AgentActivity.LIMITED else None,
        reason=_reason(name, facts),
        waiting=facts.waiting,
        command_id=facts.command_id,
        attention_id=facts.waiting_id,
    )


def _name(facts: AgentFacts) -> AgentActivity:
    applies = {
        AgentActivity.OFFLINE: not facts.online,
        AgentActivity.HALTED: facts.halted_at is not None,
        AgentActivity.WAITING: facts.waiting > 0,
        AgentActivity.WORKING: facts.command_id is not None,
        AgentActivity.PROBLEM: facts.problem is not None,
        AgentActivity.PAUSED: facts.paused_at is not None,
        AgentActivity.LIMITED: facts.limited_until is not None,
        AgentActivity.IDLE: True,
    }
    return next(name for name in AgentActivity if applies[name])


def _since(name: AgentActivity, facts: AgentFacts) -> datetime | None:
    match name:
        case AgentActivity.OFFLINE:
            return facts.disconnected_at
        case AgentActivity.HALTED:
            return facts.halted_at
        case AgentActivity.WAITING:
            return facts.waiting_since
        case AgentActivity.WORKING:
            return facts.command_since
        case AgentActivity.PROBLEM:
            return facts.problem_since
        case AgentActivity.PAUSED:
            return facts.paused_at
        case AgentActivity.LIMITED:
            return facts.limited_since
        case AgentActivity.IDLE:
            return None


def _reason(name: AgentActivity, facts: AgentFacts) -> str | None:
    match name:
        case AgentActivity.WAITING:
            return facts.waiting_title
        case AgentActivity.PROBLEM:
            return facts.problem
        case AgentActivity.PAUSED:
            return f"by {facts.paused_by_name}" if facts.paused_by_name else None
        case _:
            return None
