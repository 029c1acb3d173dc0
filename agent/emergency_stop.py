"""The emergency stop on an agent's machine: what runs is stopped fast, and that nothing is left is proven and said.

Halts are numbered by the server. One that comes late or twice is told by its number, so that the order in which a lift
and a halt arrive over two connections does not matter.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import psutil

from onsembl.agent.process.reaper import Reaper
from onsembl.agent.process.tree import nothing_left, survivors
from onsembl.protocol.field_types import MAX_PIDS, EscalationStage, Message
from onsembl.protocol.halt_messages import Halt, HaltProgress, HaltProgressState
from onsembl.protocol.stop_timeouts import StopTimeouts

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 0.25
"""How long what would not die is waited for before it is killed again."""


class Standing:
    """Whether the agent is halted, by what it has heard in whatever order. No I/O."""

    def __init__(self) -> None:
        self.halt: Halt | None = None
        self._over = 0

    def begin(self, halt: Halt) -> bool:
        """A halt was heard of; whether it is news and holds."""
        if halt.number <= self._over or (self.halt is not None and halt.number <= self.halt.number):
            return False
        self.halt = halt
        return True

    def lift(self, number: int) -> bool:
        """The halts up to this one are over; whether the agent may work again because of that."""
        self._over = max(self._over, number)
        if self.halt is None or self.halt.number > number:
            return False
        self.halt = None
        return True


class Stoppable(Protocol):
    """What runs commands."""

    async def halt(self, times: StopTimeouts, on_rung: Callable[[EscalationStage, int], None]) -> None:
        """Stop what runs, and return when the ladder is at its end."""
        ...


class EmergencyStop:
    """Obeys halts. `send` hands a report to the server, now or when it is next connected."""

    def __init__(self, runner: Stoppable, reaper: Reaper, send: Callable[[Message], None]) -> None:
        self._runner = runner
        self._reaper = reaper
        self._send = send
        self._standing = Standing()
        self._stopping: asyncio.Task[None] | None = None
        self._said: HaltProgress | None = None

    @property
    def halted(self) -> bool:
        """Whether nothing may start."""
        return self._standing.halt is not None

    def begin(self, halt: Halt) -> None:
        """Stop everything. Told again, the agent says again how far it has come."""
        if self._standing.begin(halt):
            logger.warning("Emergency stop", extra={"action": "halt_begun", "halt_id": str(halt.halt_id)})
            before, self._said = self._stopping, None
            self._stopping = asyncio.create_task(self._stop(halt, before), name=f"halt {halt.number}")
        elif self._standing.halt is not None and self._said is not None:
            self._send(self._said)

    def lift(self, number: int) -> None:
        """The halts up to this one are over."""
        if self._standing.lift(number):
            logger.warning("The emergency stop is lifted", extra={"action": "halt_lifted"})

    def lifted(self) -> None:
        """The server knows of no halt in force."""
        if self._standing.halt is not None:
            self.lift(self._standing.halt.number)

    async def end(self) -> None:
        """The agent itself ends, and stops what runs by itself."""
        if self._stopping is not None:
            self._stopping.cancel()
            await asyncio.gather(self._stopping, return_exceptions=True)

    async def _stop(self, halt: Halt, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        self._say(halt, "stopping", left=len(survivors(self._reaper)))
        await self._runner.halt(
            StopTimeouts.within(halt.seconds),
            lambda rung, left: self._say(halt, "stopping", step=rung, left=left),
        )
        while not nothing_left(self._reaper):
            left = survivors(self._reaper)
            if left:  # else one is just ending
                self._say(halt, "dying", pids=[process.pid for process in left])
            for process in left:
                try:
                    process.send_signal(signal.SIGKILL)
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            await self._reaper.wait_for_some_end(AGAIN_SECONDS)
        self._say(halt, "stopped")

    def _say(
        self,
        halt: Halt,
        state: HaltProgressState,
        *,
        step: EscalationStage | None = None,
        left: int = 0,
        pids: list[int] | None = None,
    ) -> None:
        pids = pids or []
        was = self._said
        if was is not None and pids and was.pids == pids[:MAX_PIDS]:
            return  # nothing new about those
        self._said = HaltProgress(
            halt_id=halt.halt_id,
            state=state,
            at=datetime.now(UTC),
            step=step,
            processes_left=left or len(pids),
            pids=pids[:MAX_PIDS],
        )
        self._send(self._said)
