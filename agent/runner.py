"""Runs commands, one at a time: accepted once by id, shown in the terminal, over only when nothing of it runs."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

from onsembl.agent.adapters.adapter import Adapter, Run, Surroundings
from onsembl.agent.adapters.shell import ShellRun
from onsembl.agent.journal import Journal
from onsembl.agent.ladder import Ladder, LadderTimes
from onsembl.agent.process import Process
from onsembl.agent.process_tree import ProcessTree, stragglers
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.messages import Accepted, CancelRung, CancelStep, Ended, Message, Offer

logger = logging.getLogger(__name__)

RECHECK_SECONDS = 0.02
LEFTOVER_TIMES = LadderTimes(sigterm=2.0)
RESTORE_SCREEN = b"\x1b7\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m"
"""What a full-screen program that was killed could not put back.

Leaving the alternate screen restores the cursor even where there was none to leave: it is saved first.
"""
DIM, PROMPT, RED, RESET = "\x1b[2m", "\x1b[1;36m❯\x1b[0m ", "\x1b[31m", "\x1b[0m"


class Runner:
    """The commands of one agent. `send` hands a report to the server, now or when it is next connected."""

    def __init__(
        self,
        adapter: Adapter,
        surroundings: Surroundings,
        journal: Journal,
        times: LadderTimes,
        send: Callable[[Message], None],
    ) -> None:
        self._adapter = adapter
        self._surroundings = surroundings
        self._terminal: AgentTerminal = surroundings.terminal
        self._journal = journal
        self._times = times
        self._send = send
        self._job: asyncio.Task[None] | None = None
        self._run: Run | None = None
        self._current: UUID | None = None
        self._cancelled = asyncio.Event()
        self._startup: asyncio.Task[None] | None = None

    # What the server asks

    def offer(self, offer: Offer) -> None:
        """Take a command, once: one that is known is reported again, never run again."""
        command_id = offer.command_id
        if command_id in self._journal.running:
            self._send(self._journal.running[command_id])
        elif command_id in self._journal.ended:
            self._send(self._journal.ended[command_id])
        elif not self._journal.knows(command_id):
            if self._job is not None and not self._job.done():
                logger.warning("A second command was offered", extra={"action": "offer_ignored"})
                return
            report = Accepted(command_id=command_id, started_at=datetime.now(UTC), output_start=self._terminal.end)
            self._journal.accepted(report)
            self._send(report)
            self._cancelled = asyncio.Event()
            self._current = command_id
            self._job = asyncio.create_task(self._see_through(offer, report), name=f"command {command_id}")

    def cancel(self, command_id: UUID) -> None:
        """Stop a command. One that never came here never will."""
        if command_id == self._current and command_id in self._journal.running:
            self._cancelled.set()
        elif command_id in self._journal.ended:
            self._send(self._journal.ended[command_id])
        elif not self._journal.knows(command_id):
            self._finish(Ended(command_id=command_id, outcome="cancelled", ended_at=datetime.now(UTC)))

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        self._terminal.columns, self._terminal.rows = columns, rows
        if self._run is not None:
            self._run.process.resize()

    # The agent's own life

    async def settle_the_past(self) -> None:
        """End what an earlier run of the agent left: its processes first, then the report that it is lost."""
        for command_id in self._journal.lost:
            await self._climb(stragglers(str(command_id)), Ladder(LEFTOVER_TIMES, time.monotonic()), "sigterm", None)
            self._journal.lose(command_id)

    def start_up(self, script: Path) -> None:
        """Run a script in the terminal, as no command of anyone's."""
        self._startup = asyncio.create_task(self._run_startup(script), name="startup script")

    async def stop(self) -> None:
        """End what runs, by the ladder, and report it."""
        await self._end_startup()
        if self._job is not None and not self._job.done():
            self._cancelled.set()
            await self._job

    # One command

    async def _see_through(self, offer: Offer, report: Accepted) -> None:
        await self._end_startup()
        self._terminal.write(RESTORE_SCREEN[-4:])
        self._terminal.write_line(PROMPT + offer.text.replace("\n", "\r\n  "))
        began = time.monotonic()
        try:
            run = self._adapter.start(str(offer.command_id), offer.text, self._surroundings)
        except OSError as error:
            message = f"It could not be started: {error}"
            self._terminal.write_line(f"{RED}{message}{RESET}")
            self._finish(self._end(report, "failed", error=message[:256]))
            return
        self._run = run
        try:
            gone = await self._until_gone(run, offer.command_id)
            await run.process.drain()
            status = await run.process.exited
        finally:
            self._run = None
            run.process.close()
        error = run.finish()
        self._conclude(report, run, status, error, gone, time.monotonic() - began)

    async def _until_gone(self, run: Run, command_id: UUID) -> bool:
        """Wait for the end, or bring it about; False when some process would not die."""
        process = run.process
        cancelled = asyncio.create_task(self._cancelled.wait())
        await asyncio.wait({process.exited, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        cancelled.cancel()
        if process.exited.done():
            # What the command left behind is of no command any more.
            return await self._climb(process.tree, Ladder(LEFTOVER_TIMES, time.monotonic()), "sigterm", None)

        def show(rung: CancelRung, left: int) -> None:
            self._send(CancelStep(command_id=command_id, step=rung, at=datetime.now(UTC), processes_left=left))

        return await self._climb(process.tree, Ladder(self._times, time.monotonic()), None, show, run)

    async def _climb(
        self,
        tree: ProcessTree,
        ladder: Ladder,
        first: CancelRung | None,
        show: Callable[[CancelRung, int], None] | None,
        run: Run | None = None,
    ) -> bool:
        """Up the ladder until nothing of the tree is left; False when the last rung did not do it.

        Looking for processes costs; while the leader lives there is no need to look.
        """
        if first is not None:
            ladder.skip_to(first)
        while True:
            leader_lives = run is not None and not run.process.exited.done()
            if not leader_lives:
                if not await asyncio.to_thread(tree.alive):
                    return True
                ladder.skip_to("sigterm")
            rung = ladder.climb(time.monotonic())
            if rung == "failed":
                logger.error("Processes would not die", extra={"action": "cancel_failed"})
            if rung is not None:
                _act(rung, tree, run, everywhere=not leader_lives)
                if show is not None:
                    show(rung, len(await asyncio.to_thread(tree.alive)))
            if rung == "failed":
                return False
            await self._wait_a_little(run, ladder.deadline - time.monotonic())

    async def _wait_a_little(self, run: Run | None, longest: float) -> None:
        if run is None or run.process.exited.done():
            await asyncio.sleep(min(RECHECK_SECONDS, max(0.0, longest)))
            return
        await asyncio.wait({run.process.exited}, timeout=max(0.0, longest))

    def _conclude(self, report: Accepted, run: Run, status: int, error: str | None, gone: bool, seconds: float) -> None:
        cancelled = self._cancelled.is_set()
        outcome: Literal["succeeded", "failed", "cancelled"]
        if cancelled:
            outcome = "cancelled" if gone else "failed"
        else:
            outcome = "succeeded" if status == 0 and error is None else "failed"
        if not gone:
            error = "Some of its processes would not die."
        if cancelled or status < 0:
            self._terminal.write(RESTORE_SCREEN)
        how = f"exit {status}" if status >= 0 else signal.Signals(-status).name
        if cancelled:
            how = f"cancelled · {how}"
        self._terminal.write_line(f"{DIM}{how} · {seconds:.1f} s{RESET}")
        self._finish(
            self._end(
                report,
                outcome,
                exit_code=status if status >= 0 else None,
                signal=-status if status < 0 else None,
                error=error,
                usage=run.usage,
            )
        )

    def _end(self, report: Accepted, outcome: Literal["succeeded", "failed", "cancelled"], **details: object) -> Ended:
        return Ended(
            command_id=report.command_id,
            outcome=outcome,
            started_at=report.started_at,
            ended_at=datetime.now(UTC),
            output_start=report.output_start,
            output_end=self._terminal.end,
            **details,  # type: ignore[arg-type]
        )

    def _finish(self, end: Ended) -> None:
        self._journal.end(end)
        self._send(end)

    # The script at the start

    async def _run_startup(self, script: Path) -> None:
        process = Process.in_terminal(
            ["/bin/bash", str(script)], f"startup-{uuid4()}", self._terminal, self._surroundings.cwd, {}
        )
        self._run = ShellRun(process)
        try:
            await asyncio.wait({process.exited})
        finally:
            self._run = None
            await asyncio.shield(self._climb(process.tree, Ladder(LEFTOVER_TIMES, time.monotonic()), "sigterm", None))
            await process.drain()
            process.close()
        self._terminal.write(RESTORE_SCREEN)

    async def _end_startup(self) -> None:
        if self._startup is not None:
            self._startup.cancel()
            await asyncio.gather(self._startup, return_exceptions=True)
            self._startup = None


def _act(rung: CancelRung, tree: ProcessTree, run: Run | None, *, everywhere: bool) -> None:
    number: signal.Signals
    match rung:
        case "interrupt":
            if run is not None:
                run.interrupt()
            return
        case "sigint":
            number = signal.SIGINT
        case "sigterm":
            number = signal.SIGTERM
        case "sigkill":
            number = signal.SIGKILL
        case "sweep":
            tree.signal_all(signal.SIGKILL)
            return
        case "failed":
            return
    if everywhere:
        # With the leader gone, whatever is left may be anywhere.
        tree.signal_all(number)
    else:
        tree.signal_group(number)
