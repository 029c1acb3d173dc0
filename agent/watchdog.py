"""Watches a command until it ends, is to be stopped, or exceeds one of its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from onsembl.agent.drivers.guarded import GuardedRun
from onsembl.protocol.limits import CommandLimits, LimitName, LimitWatch, span
from onsembl.protocol.messages import WorkClockState
from onsembl.protocol.usage import Usage
from onsembl.protocol.work_clock import WorkClock

USAGE_REPORT_SECONDS = 5.0
"""The shortest time between two reports of a command's usage."""
LINE_REPORT_SECONDS = 2.0
"""The shortest time between two reports of the last line of its output."""


async def watch_limits(
    run: GuardedRun,
    limits: CommandLimits,
    stop: asyncio.Event,
    report: Callable[[Usage], None],
    report_clock: Callable[[WorkClock], None] = lambda _clock: None,
    report_line: Callable[[str], None] = lambda _line: None,
    *,
    started: float | None = None,
    every: float = USAGE_REPORT_SECONDS,
) -> LimitName | None:
    """Wait for exit, a stop request, a fault of the driver or an exceeded limit; return that limit, if any.

    The command started at `started`, by the clock of the event loop; by default, with its program. `report` gets the
    usage whenever it has grown, at most once in `every` seconds; `report_clock` gets the command's clock whenever it
    stands still or goes on, and when the command begins or ends to wait for a person. `report_line` gets the last line
    of the output whenever it has changed, at most once in `LINE_REPORT_SECONDS`.
    """
    now = asyncio.get_running_loop().time
    if started is not None:
        run.clock.started = started
    watch = LimitWatch(limits, run.clock)
    reported, due = None, now() + every
    line, line_due = "", now()
    told = False, run.clock.counts_from, False
    stopped = asyncio.create_task(stop.wait())
    try:
        while not run.process.exited.done() and not stop.is_set() and run.fault is None:
            run.progressed.clear()
            usage, last_output = run.usage, run.process.last_output
            clock = (run.clock.stands_still, run.clock.counts_from, run.clock.waits_since is not None)
            if clock != told:
                told = clock
                report_clock(run.clock)
            if (exceeded := watch.exceeded(now(), last_output, usage)) is not None:
                return exceeded
            if usage is not None and usage != reported and now() >= due:
                reported, due = usage, now() + every
                report(usage)
            if run.last_line != line and now() >= line_due:
                line, line_due = run.last_line, now() + LINE_REPORT_SECONDS
                report_line(line)
            deadlines = [watch.deadline(last_output)]
            if usage != reported:
                deadlines.append(due)
            if run.last_line != line:
                deadlines.append(line_due)
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
    watch = LimitWatch(limits, WorkClock(started))
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


def stop_reason(exceeded: LimitName | None, limits: CommandLimits) -> str:
    """Why the requests of a command that is stopped are withdrawn."""
    if exceeded == "waiting_seconds" and limits.waiting_seconds is not None:
        return f"Nobody has answered for {span(limits.waiting_seconds)}: the command is stopped."
    return "The command is stopped."


def clock_state(command_id: UUID, clock: WorkClock) -> WorkClockState:
    """The message about the clock of a running command, now."""
    stood_still = clock.stood_still(asyncio.get_running_loop().time())
    return WorkClockState(
        command_id=command_id, stands_still=clock.stands_still, stood_still_seconds=max(0.0, stood_still)
    )


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
