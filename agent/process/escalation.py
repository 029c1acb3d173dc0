"""How a command is stopped: an interrupt first, then ever harder signals, until none of its processes is left.

`Escalation` decides which stage is due, without I/O; `escalate` acts on each stage. Times in seconds.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from onsembl.agent.process.reaper import Reaper
from onsembl.agent.process.tree import ProcessTree
from onsembl.protocol.field_types import EscalationStage
from onsembl.protocol.stop_timeouts import StopTimeouts

RECHECK_SECONDS = 0.02
SHORTENED_CHECK_SECONDS = 0.1
"""How soon `escalate` notices that its timeouts were shortened."""


class Escalation:
    """The stages of one stop, each with a timeout, ending with `failed` when processes survive the last stage."""

    def __init__(self, timeouts: StopTimeouts, now: float) -> None:
        self._timeouts = timeouts
        self._stages = _stages(timeouts)
        self._next = 0
        self.deadline = now
        """When the next stage is due."""

    def next_stage(self, now: float) -> EscalationStage | None:
        """The stage to act on now; None before the deadline. After the last stage it is `failed`, at each call."""
        if now < self.deadline:
            return None
        if self._next == len(self._stages):
            return "failed"
        stage, timeout = self._stages[self._next]
        self._next += 1
        self.deadline = now + timeout
        return stage

    def shorten(self, timeouts: StopTimeouts, now: float) -> None:
        """Limit the timeouts to these from now on, the timeout of the present stage included."""
        self._timeouts = self._timeouts.at_most(timeouts)
        self._stages = _stages(self._timeouts)
        if self._next > 0:
            self.deadline = min(self.deadline, now + self._stages[self._next - 1][1])

    def leader_exited(self, now: float) -> None:
        """The command's own program has ended and other processes of the command are left, which take no interrupt.

        Before `sigterm`, that stage is due at once. After `sigkill`, which reaches only the process group, the sweep is
        due as soon as the killed processes have had time to end.
        """
        if self._next <= _SIGTERM:
            self._next = _SIGTERM
            self.deadline = now
        elif self._next == _SWEEP:
            self.deadline = min(self.deadline, now + _DYING_SECONDS)

    @property
    def sweeping(self) -> bool:
        """Whether the sweep has begun: kill processes again whenever some are found, for a dying one may fork."""
        return self._next > _SWEEP


def _stages(timeouts: StopTimeouts) -> list[tuple[EscalationStage, float]]:
    return [
        ("interrupt", timeouts.interrupt),
        ("sigint", timeouts.sigint),
        ("sigterm", timeouts.sigterm),
        ("sigkill", timeouts.sigkill),
        ("sweep", timeouts.sweep),
    ]


_SIGTERM, _SWEEP = 2, 4
_DYING_SECONDS = 0.1


async def escalate(
    tree: ProcessTree,
    escalation: Escalation,
    reaper: Reaper,
    *,
    leader: asyncio.Future[int] | None = None,
    interrupt: Callable[[], None] = lambda: None,
    on_stage: Callable[[EscalationStage, list[int]], None] = lambda _stage, _alive: None,
) -> list[int]:
    """Stop the processes of `tree`; return the pids of those that survive every stage.

    `leader` is done when the command's own program has ended. While the leader lives, its process group is signalled,
    as a terminal does it; afterwards each process is signalled by itself. `on_stage` is called at each stage with the
    pids that are alive just after it.
    """
    while True:
        leader_lives = leader is not None and not leader.done()
        if not leader_lives:
            if tree.is_gone():
                return []
            escalation.leader_exited(time.monotonic())
        stage = escalation.next_stage(time.monotonic())
        if stage is not None:
            _act(stage, tree, interrupt, everywhere=not leader_lives)
            alive = [process.pid for process in tree.alive()]
            on_stage(stage, alive)
            if stage == "failed":
                return alive
        elif escalation.sweeping:
            tree.signal_all(signal.SIGKILL)
        remaining = max(0.0, escalation.deadline - time.monotonic())
        if leader_lives:
            assert leader is not None
            await asyncio.wait({leader}, timeout=min(remaining, SHORTENED_CHECK_SECONDS))
        else:
            await reaper.wait_for_exit(min(remaining, RECHECK_SECONDS))


def _act(stage: EscalationStage, tree: ProcessTree, interrupt: Callable[[], None], *, everywhere: bool) -> None:
    send = tree.signal_all if everywhere else tree.signal_group
    match stage:
        case "interrupt":
            interrupt()
        case "sigint":
            send(signal.SIGINT)
        case "sigterm":
            send(signal.SIGTERM)
            send(signal.SIGCONT)  # a suspended process cannot handle SIGTERM
        case "sigkill":
            send(signal.SIGKILL)
        case "sweep":
            tree.signal_all(signal.SIGKILL)
        case "failed":
            pass
