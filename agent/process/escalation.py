"""How a command is stopped: from a polite interrupt to a kill, one rung after another. No I/O; times in seconds."""

from __future__ import annotations

from onsembl.protocol.field_types import EscalationStage
from onsembl.protocol.stop_timeouts import StopTimeouts


class Ladder:
    """Climbed until no process is left, or until there is no higher rung."""

    def __init__(self, times: StopTimeouts, now: float) -> None:
        self._times = times
        self._rungs = _rungs(times)
        self._next = 0
        self.deadline = now
        """When the next rung is due."""

    def climb(self, now: float) -> EscalationStage | None:
        """The rung to act on now; None before the deadline. After the last one comes `failed`, once and for good."""
        if now < self.deadline:
            return None
        if self._next == len(self._rungs):
            return "failed"
        rung, patience = self._rungs[self._next]
        self._next += 1
        self.deadline = now + patience
        return rung

    def hurry(self, times: StopTimeouts, now: float) -> None:
        """No more patience than this from here on: for the rung that was climbed last, too."""
        self._times = self._times.at_most(times)
        self._rungs = _rungs(self._times)
        if self._next > 0:
            self.deadline = min(self.deadline, now + self._rungs[self._next - 1][1])

    def leader_is_gone(self, now: float) -> None:
        """Something of the command outlived its leader: there is nobody left to ask politely.

        Before `sigterm` that is the next rung, at once; after `sigkill`, which reaches only the group, the sweep is,
        once what was killed has had time to go.
        """
        if self._next <= _SIGTERM:
            self._next = _SIGTERM
            self.deadline = now
        elif self._next == _SWEEP:
            self.deadline = min(self.deadline, now + _DYING_SECONDS)

    @property
    def sweeping(self) -> bool:
        """Whether the last rung is reached: kill again whatever turns up, for it may fork as it dies."""
        return self._next > _SWEEP


def _rungs(times: StopTimeouts) -> list[tuple[EscalationStage, float]]:
    return [
        ("interrupt", times.interrupt),
        ("sigint", times.sigint),
        ("sigterm", times.sigterm),
        ("sigkill", times.sigkill),
        ("sweep", times.sweep),
    ]


_SIGTERM, _SWEEP = 2, 4
_DYING_SECONDS = 0.1
