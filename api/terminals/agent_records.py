"""What an agent's connection changes in the database, each a transaction of its own.

Presence is written under the connection's epoch, so an older connection's last words change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from psycopg.rows import DictRow

from onsembl.api.auth.agent_keys import AgentIdentity
from onsembl.fleet import instance_messages
from onsembl.fleet.halt import order
from onsembl.fleet.instance_messages import InstanceMessage
from onsembl.fleet.line import promote
from onsembl.fleet.names import RUN_COMMAND
from onsembl.protocol import request_ids
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.command_messages import MAX_STEPS
from onsembl.protocol.ids import AgentId, CommandId, Epoch, InstanceId, StreamId
from onsembl.protocol.messages import Accepted, CancelStep, Ended, Halt, HaltProgress, Hello, SizeApplied, Used
from onsembl.protocol.resume import HeldBytes, resume_offset
from onsembl.protocol.states import CommandState
from onsembl.sql import agents, archive, audit, audit_log, commands, halts, streams
from onsembl.sql.database import Connection, Pool, statement

logger = logging.getLogger(__name__)

STEP_TAKEN = "command.cancel_step"


class ConnectionRejected(Exception):
    """The agent may not connect; carries the close code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Connected:
    """What an agent's arrival came to."""

    name: str
    epoch: Epoch
    stream_id: StreamId
    resume_offset: int
    halt: Halt | None
    """The halt in force: the agent stops before anything else."""
    over: list[CommandId]
    """What it runs and should not: it is over for everybody else."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An agent's connection, by the epoch it was given, and when its access token was issued (Unix time)."""

    epoch: Epoch
    issued_at: float


@dataclass(frozen=True, slots=True)
class Presence:
    """Writes the presence and the commands of agents connected to this instance. `on_end` is told of each command's
    end, with its row."""

    pool: Pool
    statements: Pool
    """For what agents say again should Postgres lose it in a crash: each statement is a transaction."""
    instance_id: InstanceId
    on_end: Callable[[DictRow], None]
    admitted: dict[AgentId, Admitted] = field(default_factory=dict[AgentId, Admitted])
    """By what each agent that is connected here was let in."""

    async def connect(self, identity: AgentIdentity, hello: Hello, held: HeldBytes | None, address: str) -> Connected:
        """An agent has said hello: it is online, its reports are written, its line moves. Raises ConnectionRejected.

        `held` is what this process still has of the agent's stream.
        """
        agent_id = identity.id
        async with self.pool.connection() as conn:
            row = await agents.lock(conn, agent_id)
            if row is None:
                raise ConnectionRejected(CloseCode.NOT_FOUND, "this agent is not enrolled here")
            if row["disabled_at"] is not None:
                raise ConnectionRejected(CloseCode.REVOKED, "this agent is disabled")
            if row["tokens_after"] is not None and identity.issued_at < row["tokens_after"].timestamp():
                raise ConnectionRejected(CloseCode.REVOKED, "this agent's credentials are revoked")
            resume = None
            if hello.stream is not None and hello.stream.id == row["stream_id"]:
                archived = await archive.end(conn, StreamId(hello.stream.id))
                resume = resume_offset(hello.stream, archived, held)
            stream_id = await streams.create(conn, agent_id) if resume is None else StreamId(row["stream_id"])
            epoch = await agents.connected(conn, agent_id, self.instance_id, hello, stream_id)
            actor = audit.Actor("agent", agent_id, row["name"], address)
            over = await self._settle(conn, agent_id, stream_id, hello, actor)
            halt = await halts.reach(conn, agent_id)
            await self._supersede(conn, row, epoch)
            await audit.write(
                conn,
                audit.Event(
                    actor=actor,
                    action="agent.connected",
                    target_kind="agent",
                    target_id=str(agent_id),
                    detail={"epoch": epoch, "version": hello.version},
                ),
            )
        self.admitted[agent_id] = Admitted(epoch, identity.issued_at)
        order_of_halt = order(halt) if halt is not None else None
        return Connected(row["name"], epoch, stream_id, resume or 0, order_of_halt, over)

    async def _settle(
        self, conn: Connection, agent_id: AgentId, stream_id: StreamId, hello: Hello, actor: audit.Actor
    ) -> list[CommandId]:
        for ended in hello.ended:
            await self._write_end(conn, agent_id, ended, actor)
        over = [
            CommandId(accepted.command_id)
            for accepted in hello.running
            if not await _write_accepted(conn, agent_id, stream_id, accepted)
        ]
        known = [report.command_id for report in (*hello.running, *hello.ended)]
        for row in await commands.forget_unheard(conn, agent_id, known):
            await commands.notify_changed(conn, row["id"])
            if CommandState(row["state"]).is_final:
                await self.forgotten(conn, row, actor)
        await promote(conn, agent_id)
        for row in await commands.active(conn, [agent_id]):
            await commands.notify_changed(conn, row["id"])  # its job may be waiting for the agent's return
        return over

    async def _supersede(self, conn: Connection, row: DictRow, epoch: Epoch) -> None:
        if row["instance_id"] not in (None, self.instance_id):
            message = InstanceMessage(op="superseded", agent_id=row["id"], epoch=epoch)
            await instance_messages.send(conn, row["instance_id"], message)

    async def disconnect(self, agent_id: AgentId, epoch: Epoch) -> None:
        """The connection of this epoch is over."""
        if (admitted := self.admitted.get(agent_id)) is not None and admitted.epoch == epoch:
            del self.admitted[agent_id]
        async with self.pool.connection() as conn:
            if await agents.disconnected(conn, agent_id, epoch):
                await audit.write(
                    conn,
                    audit.Event(
                        actor=audit.SYSTEM,
                        action="agent.disconnected",
                        target_kind="agent",
                        target_id=str(agent_id),
                        detail={"epoch": epoch},
                    ),
                )

    async def accepted(self, agent_id: AgentId, stream_id: StreamId, report: Accepted) -> bool:
        """The agent runs the command; False when it should not, for that is over."""
        async with self.statements.connection() as conn:
            return await _write_accepted(conn, agent_id, stream_id, report)

    async def ended(self, agent_id: AgentId, report: Ended, actor: audit.Actor) -> DictRow | None:
        """The command is over: its end is written once, and the next in line is promoted with it; that one's row."""
        async with self.pool.connection() if report.steps else statement(self.pool) as conn:
            if report.steps:
                await agents.lock(conn, agent_id)
            return await self._write_end(conn, agent_id, report, actor, RUN_COMMAND)

    async def _write_end(
        self, conn: Connection, agent_id: AgentId, report: Ended, actor: audit.Actor, task: str | None = None
    ) -> DictRow | None:
        await _write_steps(conn, agent_id, report, actor)
        written = await commands.ended(conn, agent_id, report, actor, task)
        if written is None:
            return None
        row, following = written
        self._tell_end(row)
        return following

    async def forgotten(self, conn: Connection, row: DictRow, actor: audit.Actor) -> None:
        """A command is over because its agent, or `actor` for it, knows nothing of it any more."""
        self._tell_end(row)
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

    def _tell_end(self, row: DictRow) -> None:
        """Whoever counts and logs ends hears of this one."""
        self.on_end(row)
        with request_ids.in_force(row["request_id"]):
            logger.info(
                "A command is over: %s",
                row["state"],
                extra={
                    "action": "command_ended",
                    "state": row["state"],
                    "command_id": str(row["id"]),
                    "agent_id": str(row["agent_id"]),
                },
            )

    async def used(self, agent_id: AgentId, report: Used) -> None:
        """The command has used so much so far."""
        async with self.statements.connection() as conn:
            await commands.used(conn, agent_id, CommandId(report.command_id), report.usage)

    async def cancel_step(self, agent_id: AgentId, report: CancelStep, actor: audit.Actor) -> None:
        """A rung of the ladder was climbed: shown on the command, and audited."""
        async with self.pool.connection() as conn:
            if await commands.cancel_step(conn, agent_id, CommandId(report.command_id), _step(report)):
                await audit.write(conn, _step_taken(report, actor))

    async def halt_progress(self, agent_id: AgentId, report: HaltProgress, actor: audit.Actor) -> None:
        """The agent has come so far with a halt; that it stopped, or cannot, is audited."""
        async with self.pool.connection() as conn:
            if await halts.progress(conn, agent_id, report) and report.state != "stopping":
                stopped = report.state == "stopped"
                await audit.write(
                    conn,
                    audit.Event(
                        actor=actor,
                        action="halt.agent_stopped" if stopped else "halt.agent_dying",
                        target_kind="agent",
                        target_id=str(agent_id),
                        outcome="ok" if stopped else "failed",
                        detail={"halt_id": str(report.halt_id), "pids": report.pids},
                    ),
                )

    async def resized(self, agent_id: AgentId, epoch: Epoch, report: SizeApplied) -> None:
        """The pseudo-terminal has another size."""
        async with self.pool.connection() as conn:
            await agents.resized(conn, agent_id, epoch, report.columns, report.rows)


async def _write_accepted(conn: Connection, agent_id: AgentId, stream_id: StreamId, report: Accepted) -> bool:
    command_id = CommandId(report.command_id)
    return await commands.accepted(conn, agent_id, command_id, stream_id, report.started_at, report.output_start)


async def _write_steps(conn: Connection, agent_id: AgentId, report: Ended, actor: audit.Actor) -> None:
    """Audit the rungs that were not heard of when they were climbed, for want of a connection."""
    if not report.steps:
        return
    if not await commands.cancel_step(conn, agent_id, CommandId(report.command_id), _step(report.steps[-1])):
        return  # the end was written before, and these with it
    wanted = audit_log.Filter(action=STEP_TAKEN, target=str(report.command_id))
    heard = {row["detail"]["at"] for row in await audit_log.page(conn, wanted, None, MAX_STEPS)}
    for step in report.steps:
        if step.at.isoformat() not in heard:
            await audit.write(conn, _step_taken(step, actor))


def _step(report: CancelStep) -> dict[str, object]:
    return {
        "step": report.step,
        "at": report.at.isoformat(),
        "processes_left": report.processes_left,
        "pids": report.pids,
        **({"limit": report.limit} if report.limit is not None else {}),
    }


def _step_taken(report: CancelStep, actor: audit.Actor) -> audit.Event:
    return audit.Event(
        actor=actor,
        action=STEP_TAKEN,
        target_kind="command",
        target_id=str(report.command_id),
        detail=_step(report),
    )
