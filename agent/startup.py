"""The script that an agent runs in its terminal at its start, outside any command."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from onsembl.agent.process.escalation import Escalation, escalate
from onsembl.agent.process.process import Process, ProcessContext
from onsembl.protocol.stop_timeouts import StopTimeouts

logger = logging.getLogger(__name__)

_TIMEOUTS = StopTimeouts(interrupt=0.0, sigterm=2.0)


class StartupScript:
    """Runs once, and is stopped by the first command. `id` marks its processes, as a command's id does."""

    def __init__(self, script: Path | None, id: str, context: ProcessContext) -> None:
        self._script = script
        self.id = id
        self._context = context
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop_requested = asyncio.Event()
        self._timeouts = _TIMEOUTS
        self._escalation: Escalation | None = None

    def start(self) -> None:
        """Start the script, if there is one."""
        if self._script is not None:
            self._task = asyncio.create_task(self._run(self._script), name="startup script")

    async def stop(self) -> None:
        """Stop the script if it runs, and wait until none of its processes is left."""
        self._stop_requested.set()
        if self._task is not None:
            await self._task

    def shorten(self, timeouts: StopTimeouts) -> None:
        """Limit the timeouts of its stop to these."""
        self._timeouts = timeouts
        if self._escalation is not None:
            self._escalation.shorten(timeouts, time.monotonic())

    def resize(self) -> None:
        """Apply the terminal's size."""
        if self._process is not None:
            self._process.resize()

    async def _run(self, script: Path) -> None:
        try:
            await self._run_to_end(script)
        except Exception:  # the first command stops the processes that are left
            logger.exception("The startup script failed by an internal error", extra={"action": "startup_failed"})

    async def _run_to_end(self, script: Path) -> None:
        terminal, reaper = self._context.terminal, self._context.reaper
        try:
            process = Process.in_terminal(["/bin/bash", str(script)], self.id, self._context)
        except OSError as error:
            logger.warning("The startup script could not be started: %s", error, extra={"action": "startup_failed"})
            return
        self._process = process
        stop_requested = asyncio.create_task(self._stop_requested.wait())
        try:
            await asyncio.wait({process.exited, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
            self._escalation = Escalation(self._timeouts, time.monotonic())
            await escalate(process.tree, self._escalation, reaper, leader=process.exited)
            await process.drain()
        finally:
            stop_requested.cancel()
            self._process = None
        process.close()
        terminal.make_sane()
