"""Watches a command until it ends, is to be stopped, or exceeds one of its limits."""

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
    started: float | None = None,
    every: float = USAGE_REPORT_SECONDS,
) -> LimitName | None:
    """Wait for exit, a stop request, a fault of the driver or an exceeded limit; return that limit, if any.

    The command started at `started`, by the clock of the event loop; by default, now.
    The time in which a request waits for a person does not count as idle. `report` gets the usage whenever it has
    grown, at most once in `every` seconds.
    """
    now = asyncio.get_running_loop().time
    watch = LimitWatch(limits, started=now() if started is None else started)
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


async def watch_preparation(
    preparation: asyncio.Task[object], limits: CommandLimits, stop: asyncio.Event, started: float
) -> LimitName | None:
    """Wait until a command that started at `started`, and shows nothing yet, is prepared, is to be stopped or has
    exceeded a limit; return that limit, if any."""
    now = asyncio.get_running_loop().time
    watch = LimitWatch(limits, started)
    deadline = watch.deadline(started)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        while not preparation.done() and not stop.is_set():
            if (exceeded := watch.exceeded(now(), started, None)) is not None:
                return exceeded
            timeout = None if deadline is None else max(0.0, deadline - now())
            await asyncio.wait({preparation, stopped}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
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
