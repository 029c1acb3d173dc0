"""The emergency stop on an agent's machine: stops everything fast, proves that nothing is left, and reports it.

The server numbers its halts. A halt or a lift that comes late or twice is recognised by its number, so the order in
which they arrive over two connections does not matter.
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
from onsembl.agent.process.tree import no_process_left, surviving_processes
from onsembl.protocol.field_types import MAX_PIDS, EscalationStage, Message
from onsembl.protocol.halt_messages import Halt, HaltProgress, HaltProgressState
from onsembl.protocol.stop_timeouts import StopTimeouts

logger = logging.getLogger(__name__)

RETRY_KILL_SECONDS = 0.25
"""How long to wait for surviving processes before they are killed again."""


class HaltTracker:
    """Whether the agent is halted, from halts and lifts in any order. No I/O."""

    def __init__(self) -> None:
        self.halt: Halt | None = None
        self._lifted = 0

    def begin(self, halt: Halt) -> bool:
        """Take note of a halt; return whether it is new and in force."""
        if halt.number <= self._lifted or (self.halt is not None and halt.number <= self.halt.number):
            return False
        self.halt = halt
        return True

    def lift(self, number: int) -> bool:
        """Lift the halts up to this number; return whether that ends the present halt."""
        self._lifted = max(self._lifted, number)
        if self.halt is None or self.halt.number > number:
            return False
        self.halt = None
        return True


class HaltableRunner(Protocol):
    """Runs commands, and can stop them fast."""

    async def halt(self, timeouts: StopTimeouts, on_stage: Callable[[EscalationStage, int], None]) -> None:
        """Stop the running command; return when its escalation has ended.

        `on_stage` gets each stage with the number of processes that are alive just after it.
        """
        ...


class EmergencyStop:
    """Applies halts. `send` passes a report to the server."""

    def __init__(self, runner: HaltableRunner, reaper: Reaper, send: Callable[[Message], None]) -> None:
        self._runner = runner
        self._reaper = reaper
        self._send = send
        self._tracker = HaltTracker()
        self._stopping: asyncio.Task[None] | None = None
        self._last_report: HaltProgress | None = None

    @property
    def halted(self) -> bool:
        """Whether no command may start."""
        return self._tracker.halt is not None

    def begin(self, halt: Halt) -> None:
        """Stop everything. If the halt is known, report its progress again."""
        if self._tracker.begin(halt):
            logger.warning("Emergency stop", extra={"action": "halt_begun", "halt_id": str(halt.halt_id)})
            earlier, self._last_report = self._stopping, None
            self._stopping = asyncio.create_task(self._stop(halt, earlier), name=f"halt {halt.number}")
        elif self._tracker.halt is not None and self._last_report is not None:
            self._send(self._last_report)

    def lift(self, number: int) -> None:
        """Lift the halts up to this number."""
        if self._tracker.lift(number):
            logger.warning("The emergency stop is lifted", extra={"action": "halt_lifted"})

    def lift_all(self) -> None:
        """Lift every halt, because the server has none in force."""
        if self._tracker.halt is not None:
            self.lift(self._tracker.halt.number)

    async def close(self) -> None:
        """Stop working on a halt, because the agent itself ends and stops its command."""
        if self._stopping is not None:
            self._stopping.cancel()
            await asyncio.gather(self._stopping, return_exceptions=True)

    async def _stop(self, halt: Halt, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            earlier.cancel()
            await asyncio.gather(earlier, return_exceptions=True)
        while True:
            try:
                await self._stop_all(halt)
            except Exception:
                logger.exception("The emergency stop failed and begins again", extra={"action": "halt_failed"})
                await asyncio.sleep(RETRY_KILL_SECONDS)
            else:
                return

    async def _stop_all(self, halt: Halt) -> None:
        """Stop everything; return when nothing is left."""
        self._report(halt, "stopping", left=len(surviving_processes(self._reaper)))
        await self._runner.halt(
            StopTimeouts.within(halt.seconds),
            lambda stage, left: self._report(halt, "stopping", stage=stage, left=left),
        )
        while not no_process_left(self._reaper):
            survivors = surviving_processes(self._reaper)
            if survivors:  # otherwise the last process is just ending
                self._report(halt, "dying", pids=[process.pid for process in survivors])
            for process in survivors:
                try:
                    process.send_signal(signal.SIGKILL)
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            await self._reaper.wait_for_exit(RETRY_KILL_SECONDS)
        self._report(halt, "stopped")

    def _report(
        self,
        halt: Halt,
        state: HaltProgressState,
        *,
        stage: EscalationStage | None = None,
        left: int = 0,
        pids: list[int] | None = None,
    ) -> None:
        pids = pids or []
        last = self._last_report
        if last is not None and pids and last.pids == pids[:MAX_PIDS]:
            return  # the same processes were reported before
        self._last_report = HaltProgress(
            halt_id=halt.halt_id,
            state=state,
            at=datetime.now(UTC),
            step=stage,
            processes_left=left or len(pids),
            pids=pids[:MAX_PIDS],
        )
        self._send(self._last_report)
