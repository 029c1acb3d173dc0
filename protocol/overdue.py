"""Which commands run past their limits, by the clock of an observer that never goes back. No wall clock decides.

The agent enforces limits; the server only stands in for an agent that does not. So the observer may be late, but never
early: times count from the look that first saw something, and a new observer starts anew.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from onsembl.protocol.ids import CommandId
from onsembl.protocol.limits import CommandLimits, LimitName


@dataclass(frozen=True, slots=True)
class LimitedCommand:
    """A running command with limits, as a look found it."""

    limits: CommandLimits
    connection: Hashable
    """Another value for each connection of the agent; None while it has none."""
    heartbeat: str | None
    """The number of the last heartbeat of the instance that holds the connection."""
    output_end: Hashable
    """Another value when more of the agent's output is archived."""
    over: LimitName | None
    """The limit of tokens or cost that the command has exceeded."""
    stands_still: bool = False
    """Whether the command only waits for a person, as its agent says; of an agent that does not say it, whether a
    request is open."""
    stood_still: float = 0.0
    """For how many seconds it only waited before, as its agent says."""
    oldest_request: Hashable = None
    """The open request that waits longest; None without an open request."""


@dataclass(slots=True)
class _Since:
    """A value that was seen, and the end of the look that saw it first."""

    value: Hashable
    at: float

    def see(self, value: Hashable, at: float) -> None:
        if value != self.value:
            self.value, self.at = value, at


class LimitObserver:
    """One observer of the commands with limits; times are seconds of a clock that never goes back.

    A command is overdue `grace` seconds after it has exceeded a limit, if its agent has been connected for `grace`
    seconds, to an instance whose heartbeats came without a gap of `gap` seconds: otherwise a report of the agent may be
    missing. After a late look, these seconds start anew.
    """

    def __init__(self, grace: float, gap: float) -> None:
        self._grace = grace
        self._gap = gap
        self._last_began: float | None = None
        self._seen: dict[CommandId, _Observed] = {}

    def look(
        self, began: float, ended: float, commands: Mapping[CommandId, LimitedCommand]
    ) -> dict[CommandId, LimitName]:
        """Take note of the running commands with limits that were read between `began` and `ended`; return the overdue
        ones, each with the limit that it has exceeded."""
        late = self._last_began is None or ended - self._last_began > self._gap
        passed = ended - self._last_began if self._last_began is not None else 0.0
        self._last_began = began
        before, self._seen = self._seen, {}
        overdue: dict[CommandId, LimitName] = {}
        for command_id, command in commands.items():
            observed = before.get(command_id) or _Observed(command, ended)
            self._seen[command_id] = observed
            observed.see(command, began, ended, self._gap, passed=passed, late=late)
            if (limit := observed.exceeded(command, began, self._grace)) is not None:
                overdue[command_id] = limit
        return overdue


class _Observed:
    def __init__(self, command: LimitedCommand, at: float) -> None:
        self._running_since = at
        self._connection = _Since(command.connection, at)
        self._heartbeat = _Since(command.heartbeat, at)
        self._output = _Since(command.output_end, at)
        self._over = _Since(command.over, at)
        self._request = _Since(command.oldest_request, at)
        self._stands_still = command.stands_still
        self._stood_still = self._stood_still_before = command.stood_still
        self._seen_still = 0.0
        """The seconds between looks at which the command stood still, before or after."""

    def see(
        self, command: LimitedCommand, began: float, ended: float, gap: float, *, passed: float, late: bool
    ) -> None:
        silent = began - self._heartbeat.at >= gap
        self._connection.see(command.connection, ended)
        self._heartbeat.see(command.heartbeat, ended)
        self._output.see(command.output_end, ended)
        self._over.see(command.over, ended)
        self._request.see(command.oldest_request, ended)
        if command.stands_still or self._stands_still:
            self._seen_still += passed
            self._output.at = ended
        elif command.stood_still != self._stood_still:
            self._output.at = ended
        self._stands_still, self._stood_still = command.stands_still, command.stood_still
        if late or silent or command.connection is None:
            self._connection.at = ended

    def exceeded(self, command: LimitedCommand, now: float, grace: float) -> LimitName | None:
        limits = command.limits
        if now - self._connection.at < grace:
            return None
        if not command.stands_still:
            # The agent's seconds are exact; those between looks stand in for what it does not say, or not yet.
            still = max(self._seen_still, command.stood_still - self._stood_still_before)
            worked = now - self._running_since - still
            if limits.work_seconds is not None and worked >= limits.work_seconds + grace:
                return "work_seconds"
            silent_since = max(self._output.at, self._connection.at)
            if limits.idle_seconds is not None and now - silent_since >= limits.idle_seconds + grace:
                return "idle_seconds"
        waiting = limits.waiting_seconds if command.oldest_request is not None else None
        if waiting is not None and now - self._request.at >= waiting + grace:
            return "waiting_seconds"
        return command.over if now - self._over.at >= grace else None
