"""Watches a running command until it ends, is to be stopped, or exceeds one of its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from onsembl.agent.drivers.guarded import GuardedRun
from onsembl.protocol.limits import CommandLimits, LimitName, LimitWatch
from onsembl.protocol.usage import Usage

USAGE_REPORT_SECONDS = 5.0
"""The shortest time between two reports of a command's usage."""


async def watch_limits(
    run: GuardedRun,
    limits: CommandLimits,
    stop: asyncio.Event,
    report: Callable[[Usage], None],
    *,
    every: float = USAGE_REPORT_SECONDS,
) -> LimitName | None:
    """Wait for exit, a stop request, a fault of the driver or an exceeded limit; return that limit, if any.

    The time in which a request waits for a person does not count as idle. `report` gets the usage whenever it has
    grown, at most once in `every` seconds.
    """
    now = asyncio.get_running_loop().time
    watch = LimitWatch(limits, started=now())
    reported, due = None, now() + every
    waited, asked_last = False, now()
    stopped = asyncio.create_task(stop.wait())
    try:
        while not run.process.exited.done() and not stop.is_set() and run.fault is None:
            run.progressed.clear()
            waits = run.waits
            if waits or waited:  # also until just now
                asked_last = now()
            waited = waits
            usage, last_output = run.usage, max(run.process.last_output, asked_last)
            if (exceeded := watch.exceeded(now(), last_output, usage)) is not None:
                return exceeded
            if usage is not None and usage != reported and now() >= due:
                reported, due = usage, now() + every
                report(usage)
            deadlines = [watch.deadline(last_output)]
            if usage != reported:
                deadlines.append(due)
            deadline = min((deadline for deadline in deadlines if deadline is not None), default=None)
            await _wait_for_change(run, stopped, deadline, now())
    finally:
        stopped.cancel()
    return None


async def _wait_for_change(run: GuardedRun, stopped: asyncio.Task[bool], deadline: float | None, now: float) -> None:
    progressed = asyncio.create_task(run.progressed.wait())
    try:
        await asyncio.wait(
            {run.process.exited, stopped, progressed},
            timeout=None if deadline is None else max(0.0, deadline - now),
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        progressed.cancel()
