"""How a command is stopped: from a polite interrupt to a kill, one rung after another. No I/O; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from onsembl.protocol.messages import CancelRung


@dataclass(frozen=True, slots=True)
class LadderTimes:
    """How long each rung has before the next is climbed."""

    interrupt: float = 5.0
    """The CLI's own way: what a person would press."""
    sigint: float = 0.0
    sigterm: float = 10.0
    sigkill: float = 1.0
    sweep: float = 5.0
    """A kill to each process that left the group."""

    @classmethod
    def within(cls, seconds: float) -> LadderTimes:
        """The whole ladder in so many seconds, for an emergency."""
        return cls(
            interrupt=0.2 * seconds, sigint=0.0, sigterm=0.3 * seconds, sigkill=0.1 * seconds, sweep=0.4 * seconds
        )


class Ladder:
    """Climbed until no process is left, or until there is no higher rung."""

    def __init__(self, times: LadderTimes, now: float) -> None:
        self._rungs = _rungs(times)
        self._next = 0
        self.deadline = now
        """When the next rung is due."""

    def climb(self, now: float) -> CancelRung | None:
        """The rung to act on now; None before the deadline. After the last one comes `failed`, once and for good."""
        if now < self.deadline:
            return None
        if self._next == len(self._rungs):
            return "failed"
        rung, patience = self._rungs[self._next]
        self._next += 1
        self.deadline = now + patience
        return rung

    def hurry(self, times: LadderTimes, now: float) -> None:
        """Less patience from here on: for the rung that was climbed last, too."""
        self._rungs = _rungs(times)
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


def _rungs(times: LadderTimes) -> list[tuple[CancelRung, float]]:
    return [
        ("interrupt", times.interrupt),
        ("sigint", times.sigint),
        ("sigterm", times.sigterm),
        ("sigkill", times.sigkill),
        ("sweep", times.sweep),
    ]


_SIGTERM, _SWEEP = 2, 4
_DYING_SECONDS = 0.1
