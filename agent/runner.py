"""Runs commands, one at a time: each is accepted once by its id, and ends only when none of its processes is left.

A command ends with its own program. Processes that the program leaves behind (`server &`, `nohup`, a daemon) are
stopped before the end is reported: so a reported end means that nothing of the command runs any more.
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

from onsembl.agent.drivers.attached_files import AttachedFile, AttachedFiles, AttachmentError
from onsembl.agent.drivers.conversation_lock import ConversationInUse, held
from onsembl.agent.drivers.driver import Driver
from onsembl.agent.drivers.git_branch import git_branch
from onsembl.agent.drivers.guarded import GuardedRun, in_words
from onsembl.agent.drivers.start_failure import start_failure
from onsembl.agent.drivers.turn_run import PROGRAM_ENDED
from onsembl.agent.errors import CannotWrite
from onsembl.agent.link.journal import Journal, fates
from onsembl.agent.process.escalation import Escalation, escalate
from onsembl.agent.process.process import ProcessContext
from onsembl.agent.process.tree import ProcessTree
from onsembl.agent.rendering.text import printable
from onsembl.agent.requests import NOBODY, answer_taken
from onsembl.agent.startup import StartupScript
from onsembl.agent.terminal import AgentTerminal
from onsembl.agent.watchdog import clock_state, stop_reason, watch_limits, watch_preparation
from onsembl.protocol import request_ids
from onsembl.protocol.command_messages import MAX_STEERS
from onsembl.protocol.field_types import MAX_PIDS
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import CommandLimits, LimitName, describe, sent
from onsembl.protocol.messages import (
    Accepted,
    Answer,
    BadMessage,
    CancelStep,
    Ended,
    EscalationStage,
    Keys,
    LastLine,
    Message,
    Offer,
    Steer,
    Steered,
    Used,
    encode_for_server,
)
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.work_clock import WorkClock

logger = logging.getLogger(__name__)

LEFTOVER_TIMEOUTS = StopTimeouts(interrupt=0.0, sigterm=2.0)
"""For processes that a program has left behind at its end."""
SHUTDOWN_TIMEOUTS = StopTimeouts(interrupt=1.0, sigterm=3.0)
"""For the running command when the agent itself is stopped: its supervisor may not wait long."""
DIM, PROMPT, RED, RESET = "\x1b[2m", "\x1b[1;36m❯\x1b[0m ", "\x1b[31m", "\x1b[0m"
MAX_ERROR = 256
NEVER_HEARD = "The agent came back without it."

Outcome = Literal["succeeded", "failed", "cancelled", "timed_out"]


class Runner:
    """The commands of one agent. `send` passes a report to the server; without a connection the next hello has it."""

    def __init__(
        self,
        driver: Driver,
        context: ProcessContext,
        journal: Journal,
        timeouts: StopTimeouts,
        send: Callable[[Message], None],
        startup: StartupScript,
        files: AttachedFiles,
    ) -> None:
        self._driver = driver
        self._context = context
        self._terminal: AgentTerminal = context.terminal
        self._reaper = context.reaper
        self._journal = journal
        self._timeouts = timeouts
        self._send_to_server = send
        self._startup = startup
        self._files = files
        self._task: asyncio.Task[None] | None = None
        self._run: GuardedRun | None = None
        self._current: UUID | None = None
        self._server_takes_clock = False
        self.server_takes_lines = False
        """Whether the connected server takes `last_line`."""
        self._early_steers: list[Steer] = []
        """Texts for the turn of a command whose program is not started yet."""
        self._stop_requested = asyncio.Event()
        self._exceeded: LimitName | None = None
        self._steps: list[CancelStep] = []
        self._shutting_down = False
        self._halt_timeouts: StopTimeouts | None = None
        self._escalation: Escalation | None = None
        self._on_stage: Callable[[EscalationStage, int], None] = lambda _stage, _alive: None

    # The server's messages

    def offer(self, offer: Offer) -> None:
        """Accept a command, once: a known command is reported again, and never run again. Raises CannotWrite."""
        try:
            self._take(offer)
        except CannotWrite:
            raise
        except Exception as error:
            logger.exception("An offer cannot be accepted", extra={"action": "offer_failed"})
            self.fail(offer.command_id, in_words(error))

    def fail(self, command_id: UUID, error: str) -> None:
        """End an offered command that cannot be run here, unless it is known."""
        if not self._journal.knows(command_id):
            self._report_end(
                Ended(command_id=command_id, outcome="failed", ended_at=datetime.now(UTC), error=error[:MAX_ERROR])
            )

    def _take(self, offer: Offer) -> None:
        command_id = offer.command_id
        if command_id in self._journal.running:
            self._send(self._journal.running[command_id])
        elif (end := self._known_end(command_id)) is not None:
            self._send(end)
        elif not self._shutting_down:
            # While shutting down, the offer is ignored: the next hello shows that the command was not accepted.
            with request_ids.in_force(offer.request_id):
                self._accept(offer)

    def _accept(self, offer: Offer) -> None:
        if self._task is not None and not self._task.done():
            logger.warning("A second command was offered", extra={"action": "offer_ignored"})
            return
        terminal = self._terminal
        terminal.number_anew()
        report = Accepted(
            command_id=offer.command_id,
            started_at=datetime.now(UTC),
            stream_id=terminal.stream_id,
            output_start=terminal.end,
        )
        try:
            self._journal.accepted(report, terminal.outbox.base)
        except OSError as error:
            # A command that is not in the journal could run twice. It is not run, and keeps its place in the queue.
            raise CannotWrite(f"The agent cannot write its journal: {error}") from error
        self._send(report)
        logger.info("A command begins", extra={"action": "command_begun", "command_id": str(offer.command_id)})
        self._stop_requested = asyncio.Event()
        self._exceeded = None
        self._steps = []
        self._current = offer.command_id
        self._early_steers = []
        self._task = asyncio.create_task(self._run_command(offer, report), name=f"command {offer.command_id}")

    def cancel(self, command_id: UUID, limit: LimitName | None = None) -> None:
        """Stop a command, on request or because it has exceeded `limit`. An unknown command ends without running."""
        if command_id == self._current and command_id in self._journal.running:
            if not self._stop_requested.is_set() and self._exceeded is None:
                self._exceeded = limit
            self._stop_requested.set()
        elif (end := self._known_end(command_id)) is not None:
            self._send(end)
        elif not self._journal.knows(command_id):
            self._report_end(Ended(command_id=command_id, outcome="cancelled", ended_at=datetime.now(UTC)))

    def steer(self, steer: Steer) -> None:
        """Give the running turn a text, once. One that comes after the turn is ignored: the command's end has the texts
        that came in time."""
        command_id = steer.command_id
        if command_id != self._current or command_id not in self._journal.running or self._stop_requested.is_set():
            return
        steers = self._journal.steers(command_id)
        if (taken := steers.get(steer.steer_id)) is not None:
            self._send(taken)
        elif steer.steer_id in steers or len(steers) >= MAX_STEERS:
            pass
        elif self._run is None:
            self._early_steers.append(steer)
        elif (give := self._run.steer) is not None:
            try:
                self._journal.steer_given(command_id, steer.steer_id)
            except OSError as error:
                # Without the line it could be given twice. It becomes the next command of the conversation.
                logger.warning("A text is not given: %s", error, extra={"action": "journal_failed"})
            else:
                give(steer.steer_id, steer.text)

    def requests_after_welcome(self, *, server_takes: bool) -> list[Message]:
        """The messages about all open requests. A server of an earlier release takes none: each is denied."""
        messages = self._context.requests.messages_after_welcome(server_takes=server_takes)
        if not server_takes and self._run is not None:
            self._run.deny_requests(NOBODY)
        return messages

    def clock_after_welcome(self, *, server_takes: bool) -> list[Message]:
        """The messages about the running command's clock. A server of an earlier release takes none."""
        self._server_takes_clock = server_takes
        run, command_id = self._run, self._current
        return [clock_state(command_id, run.clock)] if server_takes and run is not None and command_id else []

    def _tell_clock(self, command_id: UUID, clock: WorkClock) -> None:
        if self._server_takes_clock:
            self._send(clock_state(command_id, clock))

    def _tell_line(self, command_id: UUID, line: str) -> None:
        if self.server_takes_lines:
            self._send(LastLine(command_id=command_id, text=line))

    def answer(self, answer: Answer) -> None:
        """Give the CLI the decision on an open request, once, and report what became of the answer."""
        taken = self._context.requests.take(answer)
        fate = taken.fate
        if taken.decision is not None:
            run = self._run if not self._stop_requested.is_set() else None
            if run is None or not run.give(answer.request_id, taken.decision, answer.by):
                fate = "late"
                self._context.requests.not_given(answer)
        self._send(answer_taken(answer, fate))

    def _steered(self, steer_id: UUID, step: int) -> None:
        """Report that the CLI has taken a text."""
        assert self._current is not None
        report = Steered(command_id=self._current, steer_id=steer_id, step=step)
        try:
            self._journal.steered(report)
        except OSError as error:
            logger.warning("The journal cannot be written: %s", error, extra={"action": "journal_failed"})
        self._send(report)

    def recall(self, command_id: UUID) -> None:
        """Report the end of a command that the server believes to run, although no hello has it."""
        end = self._known_end(command_id)
        if end is None:
            end = Ended(command_id=command_id, outcome="lost", ended_at=datetime.now(UTC), error=NEVER_HEARD)
        self._send(end)

    def _known_end(self, command_id: UUID) -> Ended | None:
        return self._journal.ended.get(command_id) or self._journal.recorded_end(command_id)

    def set_stop_timeouts(self, timeouts: StopTimeouts) -> None:
        """Use these timeouts for cancels from now on."""
        self._timeouts = timeouts

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size."""
        self._terminal.columns, self._terminal.rows = columns, rows
        self._startup.resize()
        if self._run is not None:
            self._run.process.resize()

    def type(self, keys: Keys) -> KeysRejection | None:
        """Type keys into the running program, or interrupt it; return the reason when they are rejected."""
        run = self._run
        if run is None:
            return "nothing_runs"
        if keys.interrupt:
            run.interrupt()
            return None
        return run.process.type(keys.text.encode())

    def when_read(self, answer: Callable[[], None]) -> None:
        """Call `answer` when the program has read nearly all typed keys, does not read, or has ended."""
        if self._run is None:
            answer()
        else:
            self._run.process.when_read(answer)

    def redraw(self) -> None:
        """Make the program draw its screen anew."""
        if self._run is not None:
            self._run.process.redraw()

    # The agent's own start, halt and shutdown

    async def clean_up_earlier_run(self) -> None:
        """Stop the processes that an earlier run of the agent left behind, and end its command as lost."""
        for command_id in self._journal.lost:
            await self._stop_leftovers(str(command_id))
            outbox, base = self._terminal.outbox, self._journal.base(command_id)
            found_end = outbox.counted_end(base)
            self._terminal.make_sane()
            self._terminal.write_line(f"{RED}lost · the agent was restarted{RESET}")
            try:
                self._journal.end_as_lost(command_id, found_end, outbox.counted_end(base))
            except OSError as error:
                # The end is in memory and is reported; a later run reports it again.
                logger.warning("The journal cannot be written: %s", error, extra={"action": "journal_failed"})
        await self._stop_leftovers(self._startup.id)
        self._remove_files(self._files.remove_all)

    async def _stop_leftovers(self, id: str) -> list[int]:
        """Stop the processes that are marked with this id; return the pids of those that survive."""
        tree = ProcessTree(self._reaper, id, None)
        survivors = await escalate(tree, Escalation(LEFTOVER_TIMEOUTS, time.monotonic()), self._reaper)
        tree.close()
        if survivors:
            logger.error("Processes survive SIGKILL: %s", survivors, extra={"action": "sweep_failed"})
        return survivors

    async def halt(self, timeouts: StopTimeouts, on_stage: Callable[[EscalationStage, int], None]) -> None:
        """Stop the running command within these timeouts, also one that is being stopped more slowly.

        `on_stage` gets each stage with the number of processes that are alive just after it.
        """
        self._startup.shorten(timeouts)
        task = self._task
        if task is None or task.done():
            await self._startup.stop()
            return
        self._halt_timeouts, self._on_stage = timeouts, on_stage
        try:
            self._stop_requested.set()
            if self._escalation is not None:
                self._escalation.shorten(timeouts, time.monotonic())
            await asyncio.wait({task})
        finally:
            self._halt_timeouts, self._on_stage = None, lambda _stage, _alive: None

    async def shut_down(self) -> None:
        """Stop the running command quickly and report its end; accept no further command."""
        self._shutting_down = True
        if self._escalation is not None:
            self._escalation.shorten(SHUTDOWN_TIMEOUTS, time.monotonic())
        await self._startup.stop()
        if self._task is not None and not self._task.done():
            self._stop_requested.set()
            await self._task

    # One command

    async def _run_command(self, offer: Offer, report: Accepted) -> None:
        """Run a command and report its end, whatever fails: an unreported end would hold the agent for ever."""
        try:
            with held(offer.turn.conversation if offer.turn is not None else None):
                end = await self._run_to_end(offer, report)
        except (ConversationInUse, AttachmentError) as error:
            end = await self._end_after(error, report, str(error))
        except Exception as error:
            logger.exception("A command failed by an internal error", extra={"action": "command_failed"})
            end = await self._end_after(error, report)
        self._run = self._escalation = None
        for process in list(self._context.open):
            process.close()
        self._remove_files(lambda: self._files.remove(offer.command_id))
        self._report_end(end)

    async def _run_to_end(self, offer: Offer, report: Accepted) -> Ended:
        await self._startup.stop()
        await self._stop_open_processes()  # there is one if the startup script failed by an internal error
        self._terminal.make_sane()
        self._terminal.write_line(PROMPT + printable(offer.text).replace("\n", "\r\n  "))
        started = asyncio.get_running_loop().time()
        files = await self._fetch_files(offer, started)
        began = time.monotonic()
        if self._stop_requested.is_set() or self._exceeded is not None:
            return self._end_before_run(report, offer.limits)
        try:
            run = GuardedRun(self._driver.start(offer, self._context, files))
        except OSError as error:
            return await self._end_after(error, report, start_failure(error))
        run.on_steered(self._steered)
        self._run = run
        for steer in self._early_steers:
            self.steer(steer)
        survivors = await self._wait_or_stop(run, offer, started)
        await run.process.drain()
        return self._conclude(report, offer.limits, run, survivors, time.monotonic() - began)

    async def _fetch_files(self, offer: Offer, started: float) -> list[AttachedFile]:
        """The files of the prompt; none if the command is stopped before or exceeds a limit. Raises AttachmentError."""
        if offer.turn is None or not offer.turn.attachments:
            return []
        attachments = offer.turn.attachments
        for attachment in attachments:
            shown = f"  {attachment.name} · {attachment.media_type} · {attachment.size:,} bytes"
            self._terminal.write_line(f"{DIM}{printable(shown)}{RESET}")
        fetching = asyncio.create_task(self._files.place(offer.command_id, attachments), name="files of a prompt")
        try:
            exceeded = await watch_preparation(fetching, offer.limits, self._stop_requested, started)
            if exceeded is not None:
                self._exceeded = exceeded
            return fetching.result() if fetching.done() else []
        except OSError as error:
            raise AttachmentError(f"The files cannot be written: {error.strerror}.") from error
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    def _end_before_run(self, report: Accepted, limits: CommandLimits) -> Ended:
        """The end of a command that was stopped while its files were fetched."""
        if self._exceeded is None:
            return self._end(report, "cancelled")
        error = f"Stopped: {describe(self._exceeded, limits)}."
        self._terminal.write_line(f"{RED}{error}{RESET}")
        return self._end(report, "timed_out", error=error, limit=sent(self._exceeded))

    def _remove_files(self, remove: Callable[[], None]) -> None:
        try:
            remove()
        except OSError:
            logger.exception("The files of a prompt cannot be removed", extra={"action": "files_left"})

    async def _stop_open_processes(self) -> set[int]:
        """Stop every process that was started and not closed; return the pids of those that survive."""
        survivors: set[int] = set()
        for process in list(self._context.open):
            escalation = Escalation(LEFTOVER_TIMEOUTS, time.monotonic())
            survivors.update(await escalate(process.tree, escalation, self._reaper, leader=process.exited))
            await process.drain()
            process.close()
        return survivors

    async def _end_after(self, error: Exception, report: Accepted, message: str | None = None) -> Ended:
        """Stop the processes that the command may have after an error; return its end."""
        message = message or in_words(error)
        try:
            survivors = await self._stop_open_processes()
            if self._run is not None:
                self._run.finish()
            survivors.update(await self._stop_leftovers(str(report.command_id)))
            if survivors:
                message += f" · Processes survive SIGKILL: {', '.join(map(str, sorted(survivors)))}"
            self._terminal.make_sane()
            self._terminal.write_line(f"{RED}{printable(message)}{RESET}")
        except Exception:
            logger.exception("A command's processes cannot be stopped", extra={"action": "cancel_failed"})
            message += " · Its processes may not have been stopped."
        return self._end(report, "failed", error=message)

    async def _wait_or_stop(self, run: GuardedRun, offer: Offer, started: float) -> list[int]:
        """Wait for the command's end, or stop it; return the pids of processes that survive every stage."""
        process, command_id = run.process, offer.command_id
        exceeded = await watch_limits(
            run,
            offer.limits,
            self._stop_requested,
            lambda usage: self._send(Used(command_id=command_id, usage=usage)),
            lambda clock: self._tell_clock(command_id, clock),
            lambda line: self._tell_line(command_id, line),
            started=started,
        )
        if exceeded is not None:
            self._exceeded = exceeded
        if run.fault is not None:
            message = f"{in_words(run.fault)} · The command is stopped."
            self._terminal.write_line(f"{RED}{printable(message)}{RESET}")
        run.withdraw_requests(PROGRAM_ENDED if process.exited.done() else stop_reason(exceeded, offer.limits))
        if process.exited.done():
            return await escalate(process.tree, self._new_escalation(LEFTOVER_TIMEOUTS), self._reaper)

        def report_stage(stage: EscalationStage, alive: list[int]) -> None:
            step = CancelStep(
                command_id=command_id,
                step=stage,
                at=datetime.now(UTC),
                processes_left=len(alive),
                pids=alive[:MAX_PIDS] if stage == "failed" else [],
                limit=sent(self._exceeded) if self._exceeded is not None else None,
            )
            self._steps.append(step)
            self._send(step)
            try:
                self._on_stage(stage, len(alive))
            except Exception:
                logger.exception("A stage cannot be reported", extra={"action": "report_failed"})

        return await escalate(
            process.tree,
            self._new_escalation(SHUTDOWN_TIMEOUTS if self._shutting_down else self._timeouts),
            self._reaper,
            leader=process.exited,
            interrupt=run.interrupt,
            on_stage=report_stage,
        )

    def _new_escalation(self, timeouts: StopTimeouts) -> Escalation:
        self._escalation = Escalation(self._halt_timeouts or timeouts, time.monotonic())
        return self._escalation

    def _conclude(
        self, report: Accepted, limits: CommandLimits, run: GuardedRun, survivors: list[int], seconds: float
    ) -> Ended:
        error, completed, usage, turn = run.finish(), run.completed, run.usage, run.turn
        exceeded = self._exceeded or (None if self._stop_requested.is_set() else run.exceeded)
        cancelled = self._stop_requested.is_set() and exceeded is None
        status = run.process.exited.result() if run.process.exited.done() else None
        outcome: Outcome
        if survivors:
            outcome, error = "failed", f"Processes survived SIGKILL: {', '.join(map(str, survivors))}"
            logger.error("Processes survived SIGKILL: %s", survivors, extra={"action": "cancel_failed"})
        elif exceeded is not None:
            outcome, error = "timed_out", f"Stopped: {describe(exceeded, limits)}."
        elif cancelled:
            outcome, error = "cancelled", "The agent was stopped." if self._shutting_down else None
        elif run.fault is not None:
            outcome, error = "failed", in_words(run.fault)
        else:
            outcome = "succeeded" if error is None and (status == 0 or completed) else "failed"
        self._terminal.make_sane()
        summary = _status_text(status)
        if cancelled:
            summary = f"cancelled · {summary}"
        elif exceeded is not None:
            summary = f"timed out, {describe(exceeded, limits)} · {summary}"
        self._terminal.write_line(f"{DIM}{summary} · {seconds:.1f} s{RESET}")
        return self._end(
            report,
            outcome,
            exit_code=status if status is not None and status >= 0 else None,
            signal=-status if status is not None and status < 0 else None,
            error=error,
            usage=usage,
            turn=turn,
            limit=sent(exceeded) if exceeded is not None else None,
            steps=self._steps,
            last_line=run.last_line,
        )

    def _end(
        self,
        report: Accepted,
        outcome: Outcome,
        *,
        error: str | None = None,
        **details: object,
    ) -> Ended:
        return Ended(
            command_id=report.command_id,
            outcome=outcome,
            started_at=report.started_at,
            ended_at=datetime.now(UTC),
            stream_id=report.stream_id,
            output_start=report.output_start,
            output_end=self._terminal.end,
            error=printable(error)[:MAX_ERROR] if error else None,
            steers=fates(self._journal.steers(report.command_id), "late"),
            branch=git_branch(self._context.cwd),
            **details,  # type: ignore[arg-type]
        )

    def _report_end(self, end: Ended) -> None:
        end = _valid(end)
        logger.info(
            "A command is over: %s",
            end.outcome,
            extra={"action": "command_over", "command_id": str(end.command_id), "outcome": end.outcome},
        )
        try:
            self._journal.end(end)
        except Exception:
            # The end is in memory, is reported, and is written with the next line: only a crash before that loses it.
            logger.exception("The journal cannot be written", extra={"action": "journal_failed"})
        self._send(end)

    def _send(self, message: Message) -> None:
        try:
            self._send_to_server(message)
        except Exception:
            # The next hello has what matters: the running commands, and the ends.
            logger.exception("A report cannot be sent", extra={"action": "report_failed"})


def _valid(end: Ended) -> Ended:
    """The end; or a plain one in its place that the server accepts."""
    try:
        encode_for_server(end)
    except BadMessage as error:
        logger.exception("The end of a command cannot be reported", extra={"action": "report_failed"})
        return Ended(
            command_id=end.command_id,
            outcome="failed",
            started_at=end.started_at,
            ended_at=end.ended_at,
            error=f"Internal error of the agent: its report is not valid: {error}"[:MAX_ERROR],
        )
    return end


def _status_text(status: int | None) -> str:
    if status is None:
        return "still running"
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"
