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
        self._last_began = began
        before, self._seen = self._seen, {}
        overdue: dict[CommandId, LimitName] = {}
        for command_id, command in commands.items():
            observed = before.get(command_id) or _Observed(command, ended)
            self._seen[command_id] = observed
            observed.see(command, began, ended, self._gap, late=late)
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

    def see(self, command: LimitedCommand, began: float, ended: float, gap: float, *, late: bool) -> None:
        silent = began - self._heartbeat.at >= gap
        self._connection.see(command.connection, ended)
        self._heartbeat.see(command.heartbeat, ended)
        self._output.see(command.output_end, ended)
        self._over.see(command.over, ended)
        if late or silent or command.connection is None:
            self._connection.at = ended

    def exceeded(self, command: LimitedCommand, now: float, grace: float) -> LimitName | None:
        limits = command.limits
        if now - self._connection.at < grace:
            return None
        if limits.wall_seconds is not None and now - self._running_since >= limits.wall_seconds + grace:
            return "wall_seconds"
        silent_since = max(self._output.at, self._connection.at)
        if limits.idle_seconds is not None and now - silent_since >= limits.idle_seconds + grace:
            return "idle_seconds"
        return command.over if now - self._over.at >= grace else None
