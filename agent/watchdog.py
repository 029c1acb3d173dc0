"""Watches a command while it runs: for its end, for the word to stop it, and for its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from onsembl.agent.drivers.driver import Run
from onsembl.protocol.limits import CommandLimits, LimitName, LimitWatch
from onsembl.protocol.usage import Usage

USED_SECONDS = 5.0
"""How often the server is told what a command has used, at most."""


async def oversee(
    run: Run, limits: CommandLimits, stop: asyncio.Event, say: Callable[[Usage], None], *, every: float = USED_SECONDS
) -> LimitName | None:
    """Until the program has ended, is to be stopped, or has passed a limit: which, then.

    `say` is told what it has used whenever that has grown, and not more often than `every` so many seconds.
    """
    now = asyncio.get_running_loop().time
    watch = LimitWatch(limits, started=now())
    told, due = None, now() + every
    stopped = asyncio.create_task(stop.wait())
    try:
        while not run.process.exited.done() and not stop.is_set():
            run.progressed.clear()
            usage, last_output = run.usage, run.process.last_output
            if (passed := watch.passed(now(), last_output, usage)) is not None:
                return passed
            if usage is not None and usage != told and now() >= due:
                told, due = usage, now() + every
                say(usage)
            wakes = [watch.deadline(last_output)]
            if usage != told:
                wakes.append(due)
            await _first(run, stopped, min((wake for wake in wakes if wake is not None), default=None), now())
    finally:
        stopped.cancel()
    return None


async def _first(run: Run, stopped: asyncio.Task[bool], wake: float | None, now: float) -> None:
    progressed = asyncio.create_task(run.progressed.wait())
    try:
        await asyncio.wait(
            {run.process.exited, stopped, progressed},
            timeout=None if wake is None else max(0.0, wake - now),
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        progressed.cancel()
