"""The script that an agent shows at its start: lines in its terminal that are no command of anyone's."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from onsembl.agent.process.escalate import climb
from onsembl.agent.process.escalation import Ladder
from onsembl.agent.process.program import Process, Surroundings
from onsembl.agent.process.terminal import RESTORE_SCREEN
from onsembl.protocol.stop_timeouts import StopTimeouts

logger = logging.getLogger(__name__)

_TIMES = StopTimeouts(interrupt=0.0, sigterm=2.0)


class Startup:
    """Runs once, and makes way for the first command. `mark` finds what a killed agent left of it."""

    def __init__(self, script: Path | None, mark: str, surroundings: Surroundings) -> None:
        self._script = script
        self.mark = mark
        self._surroundings = surroundings
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._unwanted = asyncio.Event()
        self._times = _TIMES
        self._ladder: Ladder | None = None

    def begin(self) -> None:
        """Start the script, if there is one."""
        if self._script is not None:
            self._task = asyncio.create_task(self._run(self._script), name="startup script")

    async def end(self) -> None:
        """Stop it, if it runs, and wait until nothing of it is left."""
        self._unwanted.set()
        if self._task is not None:
            await self._task

    def hurry(self, times: StopTimeouts) -> None:
        """Have less patience with it."""
        self._times = times
        if self._ladder is not None:
            self._ladder.hurry(times, time.monotonic())

    def resize(self) -> None:
        """The terminal has another size."""
        if self._process is not None:
            self._process.resize()

    async def _run(self, script: Path) -> None:
        terminal, reaper = self._surroundings.terminal, self._surroundings.reaper
        try:
            process = Process.in_terminal(["/bin/bash", str(script)], self.mark, self._surroundings)
        except OSError as error:
            logger.warning("The startup script could not be started: %s", error, extra={"action": "startup_failed"})
            return
        self._process = process
        unwanted = asyncio.create_task(self._unwanted.wait())
        try:
            await asyncio.wait({process.exited, unwanted}, return_when=asyncio.FIRST_COMPLETED)
            leader = process.exited
            self._ladder = Ladder(self._times, time.monotonic())
            await climb(process.tree, self._ladder, reaper, leader=leader)
            await process.drain()
        finally:
            unwanted.cancel()
            self._process = None
            process.close()
        terminal.control(RESTORE_SCREEN)
