"""Writes agents' reports to the database: the start, usage and end of commands, the steps of a cancel, the progress of
a halt, and the size of the terminal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from onsembl.api.terminals.agent_problems import write_problem
from onsembl.api.terminals.hub import AgentLink, Hub
from onsembl.api.terminals.last_lines import LastLines
from onsembl.fleet import vendor_limits
from onsembl.fleet.attention import record_asked, refusal
from onsembl.fleet.halt import record_progress
from onsembl.protocol import request_ids
from onsembl.protocol.command_messages import MAX_STEPS
from onsembl.protocol.ids import AgentId, CommandId, StreamId
from onsembl.protocol.limits import received
from onsembl.protocol.messages import (
    Accepted,
    AgentProblem,
    AnswerTaken,
    Asked,
    Cancel,
    CancelStep,
    Ended,
    EndRecorded,
    HaltProgress,
    Hello,
    LastLine,
    OpenRequests,
    SizeApplied,
    Steered,
    Steps,
    StepsRecorded,
    StreamTail,
    Used,
    Withdrawn,
    WorkClockState,
)
from onsembl.protocol.output_place import OutputPlace
from onsembl.protocol.reports import REPORT_STEP
from onsembl.protocol.states import CommandState
from onsembl.sql import agents, attention, audit, audit_log, commands, reports, steers, steps, stream_chains
from onsembl.sql.database import DATABASE_ERRORS, LASTING_ERRORS, Connection, Pool, statement

logger = logging.getLogger(__name__)

STEP_TAKEN = "command.cancel_step"

CLOCK_TOLERANCE = 1.0
"""The difference between an agent's clock and the server's bounds, in seconds, from which it is logged."""

Report = (
    Accepted
    | Used
    | LastLine
    | WorkClockState
    | Ended
    | Steps
    | Steered
    | OpenRequests
    | Asked
    | Withdrawn
    | AnswerTaken
    | CancelStep
    | HaltProgress
    | AgentProblem
    | SizeApplied
)


def cancel_of_ended(command_id: UUID) -> Cancel:
    """The answer to an agent that has started a command after its end: the command has failed because the agent took so
    long to accept the offer."""
    return Cancel(command_id=command_id, reason="The command has already ended.")


def unrecorded(report: Ended, error: Exception) -> Ended:
    """The end of a command in place of one that cannot be written: the command has failed. It has no field that could
    be at fault."""
    why = f"The server could not record the command's end: {type(error).__name__}."
    return Ended(command_id=report.command_id, outcome="failed", ended_at=datetime.now(UTC), error=why)


@dataclass(frozen=True, slots=True)
class HelloOutcome:
    """The commands that the agent still runs although they have ended, and those whose end it is asked for."""

    ended_before: list[CommandId]
    recalled: list[CommandId]


@dataclass(frozen=True, slots=True)
class AgentReports:
    """Writes reports and answers them. `on_end` is called with the row of each command that has ended."""

    hub: Hub
    pool: Pool
    statements: Pool
    """For reports that are one statement: each is its own transaction."""
    on_end: Callable[[DictRow], None]
    last_lines: LastLines

    async def write(self, link: AgentLink, report: Report) -> None:
        """Write one report of a connected agent, and answer it. Raises psycopg.Error or PoolTimeout."""
        agent_id = link.agent_id
        match report:
            case Accepted():
                async with self.statements.connection() as conn:
                    place = await self._place(conn, agent_id, report)
                    running = await _write_accepted(conn, agent_id, place, report, may_lose=True)
                if running is None:
                    await link.send(cancel_of_ended(report.command_id))
                elif running["steered"]:
                    await self.hub.send_steers(link)
            case Used():
                async with self.statements.connection() as conn:
                    await commands.used(conn, agent_id, CommandId(report.command_id), report.usage)
            case LastLine():
                self.last_lines.put(agent_id, CommandId(report.command_id), report.text)
            case WorkClockState():
                async with self.statements.connection() as conn:
                    await commands.clock_told(conn, agent_id, report)
            case Ended():
                whole = bool(report.steps) or _tells_of_limits(report)
                async with self.pool.connection() if whole else statement(self.pool) as conn:
                    if whole:
                        await agents.lock(conn, agent_id)
                    place = await self._place(conn, agent_id, report)
                    next_command = await self._write_end(
                        conn, agent_id, report, link.actor, place=place, promote_next=True
                    )
                await link.send(EndRecorded(command_id=report.command_id))
                if next_command is not None:
                    await self.hub.dispatch(next_command)
                if report.branch is not None and report.branch != link.branch:
                    link.branch = report.branch
                    async with statement(self.pool) as conn:
                        await agents.set_branch(conn, agent_id, link.epoch, report.branch)
            case Steps():
                command_id = CommandId(report.command_id)
                try:
                    async with self.pool.connection() as conn:
                        place = await self._place(conn, agent_id, report)
                        await steps.write(conn, agent_id, command_id, place.of_steps(report.steps))
                        for step in report.steps:
                            if step.kind == "message" and step.name == REPORT_STEP:
                                draft = step.status != "completed"
                                await reports.write(
                                    conn, agent_id, command_id, step.text, step.text_omitted, draft=draft
                                )
                except psycopg.DataError as error:  # the agent would send them again for ever
                    logger.warning(
                        "Steps of a command cannot be stored: %s",
                        error,
                        extra={"action": "steps_rejected", "command_id": str(command_id)},
                    )
                await link.send(StepsRecorded(command_id=command_id, through=report.through))
            case Steered():
                async with statement(self.pool) as conn:
                    steer_id = CommandId(report.steer_id)
                    await steers.taken(
                        conn, CommandId(report.command_id), steer_id, report.step, commands.CHANGED, link.actor
                    )
            case OpenRequests():
                async with self.pool.connection() as conn:
                    await attention.answers_given(conn, agent_id, report.given)
                    await attention.withdraw_others(conn, agent_id, report.requests)
            case Asked():
                async with self.pool.connection() as conn:
                    recorded = await record_asked(conn, agent_id, report)
                if recorded == "refused":
                    await link.send(refusal(report))
                elif recorded != "open":
                    await self.hub.send_answers(link)
            case Withdrawn():
                async with statement(self.pool) as conn:
                    await attention.withdraw(conn, agent_id, report.request_id, report.reason)
            case AnswerTaken():
                async with statement(self.pool) as conn:
                    await attention.answer_taken(conn, agent_id, report.request_id, report.digest, report.fate)
            case CancelStep():
                async with self.pool.connection() as conn:
                    if await commands.cancel_step(conn, agent_id, CommandId(report.command_id), _step(report)):
                        await audit.write(conn, _step_taken(report, link.actor))
            case HaltProgress():
                async with self.pool.connection() as conn:
                    await record_progress(conn, agent_id, report, link.actor)
            case AgentProblem():
                await self._write_problem(link, report)
            case SizeApplied():
                async with self.pool.connection() as conn:
                    await agents.resized(conn, agent_id, link.epoch, report.columns, report.rows)

    async def _place(self, conn: Connection, agent_id: AgentId, report: Accepted | Ended | Steps) -> OutputPlace:
        """Where the output is that a connected agent reports."""
        present = self.hub.terminals[agent_id].stream_id
        assert present is not None
        return await _place(conn, agent_id, present, report.stream_id or present)

    async def _write_problem(self, link: AgentLink, report: AgentProblem) -> None:
        """Write an agent's problem, and put back the command that it was offered; or its end, and promote the next."""
        next_command: DictRow | None = None
        async with self.pool.connection() as conn:
            row = await agents.lock(conn, link.agent_id)
            if row is None or row["epoch"] != link.epoch:
                return  # the agent has connected again, or has been deleted
            await write_problem(conn, row, report.problem, link.actor)
            if report.problem is not None:
                active = await commands.active(conn, [link.agent_id])
                running = [row["id"] for row in active if row["state"] == CommandState.RUNNING]
                await self._settle_unreported(conn, link.agent_id, running, link.actor)
            else:
                next_command = await commands.promote(conn, link.agent_id)
        # Only now: an offer that was made before this transaction must not count as a later one.
        link.problems, link.offered = report.number, None
        if next_command is not None:
            await self.hub.dispatch(next_command)

    async def write_hello(
        self,
        conn: Connection,
        agent_id: AgentId,
        stream_id: StreamId,
        hello: Hello,
        actor: audit.Actor,
    ) -> HelloOutcome:
        """Write the reports in an agent's hello, correct the commands that it no longer knows, and promote the next
        command. The caller holds the agent's row; `stream_id` is the agent's present stream.
        """
        tail = hello.stream
        for ended in hello.ended:
            try:
                async with conn.transaction():
                    place = await _place(conn, agent_id, stream_id, ended.stream_id, tail)
                    await self._write_end(conn, agent_id, ended, actor, place=place)
            except Exception as error:
                # The agent would repeat it at each connection, and never be online again.
                if isinstance(error, DATABASE_ERRORS) and not isinstance(error, LASTING_ERRORS):
                    raise
                logger.exception("A command's end cannot be written", extra={"action": "report_failed"})
                await self._write_end(conn, agent_id, unrecorded(ended, error), actor)
        ended_before = [
            CommandId(accepted.command_id)
            for accepted in hello.running
            if await _write_accepted(
                conn, agent_id, await _place(conn, agent_id, stream_id, accepted.stream_id, tail), accepted
            )
            is None
        ]
        known = [report.command_id for report in (*hello.running, *hello.ended)]
        recalled: list[CommandId] = []
        if hello.recalls:
            # The database may be older than the agent's journal: the agent is asked before a command counts as lost.
            recalled = [
                CommandId(row["id"])
                for row in await commands.active(conn, [agent_id])
                if row["state"] == CommandState.RUNNING and row["id"] not in known
            ]
            known += recalled
        await self._settle_unreported(conn, agent_id, known, actor)
        await commands.promote(conn, agent_id)
        for row in await commands.active(conn, [agent_id]):
            await commands.notify_changed(conn, row["id"])  # its job may be waiting for the agent's return
        return HelloOutcome(ended_before, recalled)

    async def _settle_unreported(
        self, conn: Connection, agent_id: AgentId, known: Collection[UUID], actor: audit.Actor
    ) -> None:
        for row in await commands.settle_unreported(conn, agent_id, known):
            await commands.notify_changed(conn, row["id"])
            if CommandState(row["state"]).is_final:
                await self.write_lost(conn, row, actor)

    async def write_lost(self, conn: Connection, row: DictRow, actor: audit.Actor) -> None:
        """Audit the end of a command that its agent does not know; `actor` is the agent, or who disabled it."""
        self._log_end(row)
        await audit.write(
            conn,
            audit.Event(
                actor=actor,
                action="command.ended",
                target_kind="command",
                target_id=str(row["id"]),
                detail={"state": row["state"], "exit_code": None, "signal": None},
            ),
        )

    async def _write_end(
        self,
        conn: Connection,
        agent_id: AgentId,
        report: Ended,
        actor: audit.Actor,
        *,
        place: OutputPlace | None = None,
        promote_next: bool = False,
    ) -> DictRow | None:
        """Write the end of a command once, and its last line a little later. With `promote_next`, the agent's next
        command is promoted; its row is returned. `place` is that of the command's output, if it is known."""
        await _audit_missed_steps(conn, agent_id, report, actor)
        stream_id = None
        if place is not None:
            report, stream_id = place.of_end(report), place.stream_id
        limits = _tells_of_limits(report)  # of which the next command depends
        written = await commands.ended(conn, agent_id, report, actor, promote_next=promote_next and not limits)
        if stream_id is not None and report.output_end is not None and (written is None or not written[0]["stream_id"]):
            # The acceptance, which names the stream, never came, or a crash of Postgres has undone it.
            await commands.place_output(conn, CommandId(report.command_id), stream_id)
        if written is None:
            return None
        row, next_command = written
        if report.last_line:
            self.last_lines.put(agent_id, CommandId(row["id"]), report.last_line)
        if limits and report.turn is not None:
            await vendor_limits.record(conn, row, actor.name, report.turn)
            next_command = await commands.promote(conn, agent_id) if promote_next else None
        off_by = (report.ended_at - row["ended_at"]).total_seconds()
        if abs(off_by) > CLOCK_TOLERANCE:
            logger.warning(
                "An agent's clock is off by about %.0f s; the times of a command were corrected",
                off_by,
                extra={"action": "clock_off", "agent_id": str(agent_id), "command_id": str(row["id"])},
            )
        self._log_end(row)
        return next_command

    def _log_end(self, row: DictRow) -> None:
        self.on_end(row)
        with request_ids.in_force(row["request_id"]):
            logger.info(
                "A command has ended: %s",
                row["state"],
                extra={
                    "action": "command_ended",
                    "state": row["state"],
                    "command_id": str(row["id"]),
                    "agent_id": str(row["agent_id"]),
                },
            )


def _tells_of_limits(report: Ended) -> bool:
    return report.turn is not None and report.turn.tells_of_limits


async def _write_accepted(
    conn: Connection, agent_id: AgentId, place: OutputPlace, report: Accepted, *, may_lose: bool = False
) -> DictRow | None:
    """Mark the command as running; None when it has already ended, else whether texts wait for it, as `steered`."""
    command_id = CommandId(report.command_id)
    start = place.counted(report.output_start)
    return await commands.accepted(
        conn, agent_id, command_id, place.stream_id, report.started_at, start, may_lose=may_lose
    )


async def _place(
    conn: Connection, agent_id: AgentId, present: StreamId, named: UUID | None, tail: StreamTail | None = None
) -> OutputPlace:
    """Where the output of a command is, whose offsets are counted by the stream `named`; `present` is the agent's.

    `tail` is that of the hello that has the report: an agent of an earlier release counts by its stream.
    """
    if named is None and tail is not None:
        named = tail.id
    if named == present:
        return OutputPlace(present)
    chain = await stream_chains.get(conn, agent_id, named) if named is not None else None
    if chain is None:
        return OutputPlace(present, known=False)
    return OutputPlace(chain.links[0].stream_id, chain)


async def _audit_missed_steps(conn: Connection, agent_id: AgentId, report: Ended, actor: audit.Actor) -> None:
    """Audit the steps of a cancel that the agent could not report when it took them, being offline."""
    if not report.steps:
        return
    if not await commands.cancel_step(conn, agent_id, CommandId(report.command_id), _step(report.steps[-1])):
        return  # the end was written before, with its steps
    wanted = audit_log.EventFilter(action=STEP_TAKEN, target=str(report.command_id))
    audited = {row["detail"]["at"] for row in await audit_log.page(conn, wanted, None, MAX_STEPS)}
    for step in report.steps:
        if step.at.isoformat() not in audited:
            await audit.write(conn, _step_taken(step, actor))


def _step(report: CancelStep) -> dict[str, object]:
    return {
        "step": report.step,
        "at": report.at.isoformat(),
        "processes_left": report.processes_left,
        "pids": report.pids,
        **({"limit": received(report.limit)} if report.limit is not None else {}),
    }


def _step_taken(report: CancelStep, actor: audit.Actor) -> audit.Event:
    return audit.Event(
        actor=actor,
        action=STEP_TAKEN,
        target_kind="command",
        target_id=str(report.command_id),
        detail=_step(report),
    )
