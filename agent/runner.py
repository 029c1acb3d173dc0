"""Runs commands, one at a time: accepted once by id, shown in the terminal, over only when nothing of it runs.

A command ends with its own program. What that leaves behind (`server &`, `nohup`, a daemon) is of no command any more
and is ended too, before the end is reported: so an end says that nothing of the command runs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from onsembl.agent.drivers.driver import Adapter, Run
from onsembl.agent.link.journal import Journal
from onsembl.agent.process.escalate import climb
from onsembl.agent.process.escalation import Ladder
from onsembl.agent.process.program import Surroundings
from onsembl.agent.process.terminal import RESTORE_COLOURS, RESTORE_SCREEN, AgentTerminal, printable
from onsembl.agent.process.tree import ProcessTree
from onsembl.agent.startup import Startup
from onsembl.agent.watchdog import oversee
from onsembl.protocol import request_ids
from onsembl.protocol.field_types import MAX_PIDS
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import CommandLimits, LimitName, describe
from onsembl.protocol.messages import Accepted, CancelStep, Ended, EscalationStage, Keys, Message, Offer, Used
from onsembl.protocol.stop_timeouts import StopTimeouts

logger = logging.getLogger(__name__)

LEFTOVER_TIMES = StopTimeouts(interrupt=0.0, sigterm=2.0)
STOPPING_TIMES = StopTimeouts(interrupt=1.0, sigterm=3.0)
"""When the agent itself is stopped: what supervises it may have little patience."""
DIM, PROMPT, RED, RESET = "\x1b[2m", "\x1b[1;36m❯\x1b[0m ", "\x1b[31m", "\x1b[0m"
MAX_ERROR = 256

End = Literal["succeeded", "failed", "cancelled", "timed_out"]


class Runner:
    """The commands of one agent. `send` hands a report to the server, now or when it is next connected."""

    def __init__(
        self,
        adapter: Adapter,
        surroundings: Surroundings,
        journal: Journal,
        times: StopTimeouts,
        send: Callable[[Message], None],
        startup: Startup,
    ) -> None:
        self._adapter = adapter
        self._surroundings = surroundings
        self._terminal: AgentTerminal = surroundings.terminal
        self._reaper = surroundings.reaper
        self._journal = journal
        self._times = times
        self._send = send
        self._startup = startup
        self._job: asyncio.Task[None] | None = None
        self._run: Run | None = None
        self._current: UUID | None = None
        self._cancelled = asyncio.Event()
        self._passed: LimitName | None = None
        self._steps: list[CancelStep] = []
        self._stopping = False
        self._haste: StopTimeouts | None = None
        self._ladder: Ladder | None = None
        self._on_rung: Callable[[EscalationStage, int], None] = lambda _rung, _left: None

    # What the server asks

    def offer(self, offer: Offer) -> None:
        """Take a command, once: one that is known is reported again, never run again."""
        command_id = offer.command_id
        if command_id in self._journal.running:
            self._send(self._journal.running[command_id])
        elif command_id in self._journal.ended:
            self._send(self._journal.ended[command_id])
        elif not self._journal.knows(command_id):
            self._take(offer)

    def _take(self, offer: Offer) -> None:
        if self._stopping:
            return  # the server finds out at the next hello that it never came here, and offers it again
        with request_ids.in_force(offer.request_id):
            self._begin(offer)

    def _begin(self, offer: Offer) -> None:
        if self._job is not None and not self._job.done():
            logger.warning("A second command was offered", extra={"action": "offer_ignored"})
            return
        report = Accepted(command_id=offer.command_id, started_at=datetime.now(UTC), output_start=self._terminal.end)
        try:
            self._journal.accepted(report)
        except OSError as error:
            # What is not written down could run twice, so it does not run at all.
            logger.exception("The journal cannot be written", extra={"action": "journal_failed"})
            self._finish(self._end(report, "failed", error=f"The agent cannot write its journal: {error}"))
            return
        self._send(report)
        logger.info("A command begins", extra={"action": "command_begun", "command_id": str(offer.command_id)})
        self._cancelled = asyncio.Event()
        self._passed = None
        self._steps = []
        self._current = offer.command_id
        self._job = asyncio.create_task(self._see_through(offer, report), name=f"command {offer.command_id}")

    def cancel(self, command_id: UUID, limit: LimitName | None = None) -> None:
        """Stop a command, because of a limit or by somebody's wish. One that never came here never will."""
        if command_id == self._current and command_id in self._journal.running:
            if not self._cancelled.is_set() and self._passed is None:
                self._passed = limit
            self._cancelled.set()
        elif command_id in self._journal.ended:
            self._send(self._journal.ended[command_id])
        elif not self._journal.knows(command_id):
            self._finish(Ended(command_id=command_id, outcome="cancelled", ended_at=datetime.now(UTC)))

    def take_times(self, times: StopTimeouts) -> None:
        """How much patience there is from here on."""
        self._times = times

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        self._terminal.columns, self._terminal.rows = columns, rows
        self._startup.resize()
        if self._run is not None:
            self._run.process.resize()

    def type(self, keys: Keys) -> KeysRejection | None:
        """Type into the program that runs, or interrupt it as its CLI wants to be; why not, if not."""
        run = self._run
        if run is None:
            return "nothing_runs"
        if keys.interrupt:
            run.interrupt()
            return None
        return run.process.type(keys.text.encode())

    def once_read(self, answer: Callable[[], None]) -> None:
        """Call `answer` when the program has read nearly all that was typed, does not read, or is over."""
        if self._run is None:
            answer()
        else:
            self._run.process.once_read(answer)

    def redraw(self) -> None:
        """Have the program draw its screen anew."""
        if self._run is not None:
            self._run.process.redraw()

    # The agent's own life

    async def settle_the_past(self) -> None:
        """End what an earlier run of the agent left: its processes first, then the report that it is lost."""
        for command_id in self._journal.lost:
            await self._sweep(str(command_id))
            self._terminal.control(RESTORE_SCREEN)
            self._terminal.write_line(f"{RED}lost · the agent was restarted{RESET}")
            self._journal.lose(command_id, self._terminal.end)
        await self._sweep(self._startup.mark)

    async def _sweep(self, mark: str) -> None:
        tree = ProcessTree(self._reaper, mark, None)
        stuck = await climb(tree, Ladder(LEFTOVER_TIMES, time.monotonic()), self._reaper)
        tree.close()
        if stuck:
            logger.error("Processes of an earlier run would not die: %s", stuck, extra={"action": "sweep_failed"})

    async def halt(self, times: StopTimeouts, on_rung: Callable[[EscalationStage, int], None]) -> None:
        """Stop what runs by this ladder, also what is being stopped with more patience."""
        self._startup.hurry(times)
        job = self._job
        if job is None or job.done():
            await self._startup.end()
            return
        self._haste, self._on_rung = times, on_rung
        try:
            self._cancelled.set()
            if self._ladder is not None:
                self._ladder.hurry(times, time.monotonic())
            await asyncio.wait({job})
        finally:
            self._haste, self._on_rung = None, lambda _rung, _left: None

    async def stop(self) -> None:
        """End what runs, by a quick ladder, and report it; take nothing more."""
        self._stopping = True
        if self._ladder is not None:
            self._ladder.hurry(STOPPING_TIMES, time.monotonic())
        await self._startup.end()
        if self._job is not None and not self._job.done():
            self._cancelled.set()
            await self._job

    # One command

    async def _see_through(self, offer: Offer, report: Accepted) -> None:
        await self._startup.end()
        self._terminal.control(RESTORE_COLOURS)
        self._terminal.write_line(PROMPT + printable(offer.text).replace("\n", "\r\n  "))
        began = time.monotonic()
        if self._cancelled.is_set():
            self._finish(self._end(report, "cancelled"))
            return
        try:
            run = self._adapter.start(str(offer.command_id), offer.text, self._surroundings, offer.limits)
        except OSError as error:
            message = f"It could not be started: {error}"
            self._terminal.write_line(f"{RED}{printable(message)}{RESET}")
            self._finish(self._end(report, "failed", error=message))
            return
        self._run = run
        try:
            stuck = await self._until_gone(run, offer)
            await run.process.drain()
        finally:
            self._run = self._ladder = None
            run.process.close()
        self._conclude(report, offer.limits, run, stuck, time.monotonic() - began)

    async def _until_gone(self, run: Run, offer: Offer) -> list[int]:
        """Wait for the end, or bring it about; the pids of what would not die."""
        process, command_id = run.process, offer.command_id
        passed = await oversee(
            run, offer.limits, self._cancelled, lambda usage: self._send(Used(command_id=command_id, usage=usage))
        )
        if passed is not None:
            self._passed = passed
        if process.exited.done():
            return await climb(process.tree, self._new_ladder(LEFTOVER_TIMES), self._reaper)

        def show(rung: EscalationStage, left: list[int]) -> None:
            stuck = left[:MAX_PIDS] if rung == "failed" else []
            step = CancelStep(
                command_id=command_id,
                step=rung,
                at=datetime.now(UTC),
                processes_left=len(left),
                pids=stuck,
                limit=self._passed,
            )
            self._steps.append(step)
            self._send(step)
            self._on_rung(rung, len(left))

        return await climb(
            process.tree,
            self._new_ladder(STOPPING_TIMES if self._stopping else self._times),
            self._reaper,
            leader=process.exited,
            interrupt=run.interrupt,
            on_rung=show,
        )

    def _new_ladder(self, times: StopTimeouts) -> Ladder:
        self._ladder = Ladder(self._haste or times, time.monotonic())
        return self._ladder

    def _conclude(self, report: Accepted, limits: CommandLimits, run: Run, stuck: list[int], seconds: float) -> None:
        error = run.finish()
        passed = self._passed or (None if self._cancelled.is_set() else run.passed)
        cancelled = self._cancelled.is_set() and passed is None
        status = run.process.exited.result() if run.process.exited.done() else None
        outcome: End
        if stuck:
            outcome, error = "failed", f"Processes that would not die: {', '.join(map(str, stuck))}"
            logger.error("Processes would not die: %s", stuck, extra={"action": "cancel_failed"})
        elif passed is not None:
            outcome, error = "timed_out", f"Stopped: {describe(passed, limits)}."
        elif cancelled:
            outcome, error = "cancelled", "The agent was stopped." if self._stopping else None
        else:
            outcome = "succeeded" if status == 0 and error is None else "failed"
        if cancelled or passed or status is None or status < 0:
            self._terminal.control(RESTORE_SCREEN)
        how = _how(status)
        if cancelled:
            how = f"cancelled · {how}"
        elif passed is not None:
            how = f"timed out, {describe(passed, limits)} · {how}"
        self._terminal.write_line(f"{DIM}{how} · {seconds:.1f} s{RESET}")
        self._finish(
            self._end(
                report,
                outcome,
                exit_code=status if status is not None and status >= 0 else None,
                signal=-status if status is not None and status < 0 else None,
                error=error,
                usage=run.usage,
                limit=passed,
                steps=self._steps,
            )
        )

    def _end(
        self,
        report: Accepted,
        outcome: End,
        *,
        error: str | None = None,
        **details: object,
    ) -> Ended:
        return Ended(
            command_id=report.command_id,
            outcome=outcome,
            started_at=report.started_at,
            ended_at=datetime.now(UTC),
            output_start=report.output_start,
            output_end=self._terminal.end,
            error=printable(error)[:MAX_ERROR] if error else None,
            **details,  # type: ignore[arg-type]
        )

    def _finish(self, end: Ended) -> None:
        logger.info(
            "A command is over: %s",
            end.outcome,
            extra={"action": "command_over", "command_id": str(end.command_id), "outcome": end.outcome},
        )
        try:
            self._journal.end(end)
        except OSError:
            # It is remembered and reported all the same; only a crash before the server has it would lose it.
            logger.exception("The journal cannot be written", extra={"action": "journal_failed"})
        self._send(end)


def _how(status: int | None) -> str:
    if status is None:
        return "still running"
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal
        return f"signal {-status}"
