"""Writes agents' presence: online at the hello, offline when the connection is closed.

Every write names the connection's epoch, so a late write of an older connection changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg.rows import DictRow

from onsembl.api.auth.agent_keys import AgentIdentity
from onsembl.api.terminals.agent_problems import write_problem
from onsembl.api.terminals.agent_reports import AgentReports, HelloOutcome
from onsembl.api.terminals.sessions import ConnectionRejected
from onsembl.fleet import instance_messages
from onsembl.fleet.halt import halt_message
from onsembl.fleet.instance_messages import AgentConnected, InstanceMessage
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, Epoch, InstanceId, StreamId
from onsembl.protocol.messages import Halt, Hello, StreamTail
from onsembl.protocol.resume import HeldBytes, new_stream_offset, resume_offset
from onsembl.sql import agents, archive, audit, halts, stream_chains
from onsembl.sql.database import Connection, Pool


@dataclass(frozen=True, slots=True)
class Connected:
    """The result of an agent's connect: what the welcome contains."""

    name: str
    epoch: Epoch
    stream_id: StreamId
    resume_offset: int
    archived: int
    """The end of the stream's archive."""
    begins_at: int | None
    """The offset in the agent's stream at which its new stream begins; None when it resumes, or has no stream."""
    halt: Halt | None
    """The halt in force: the agent stops its command before anything else."""
    hello: HelloOutcome


LATE_HELLO = "A later connection of this agent came before this one."


@dataclass(frozen=True, slots=True)
class Admitted:
    """The epoch of an agent's connection, and when its access token was issued (Unix time)."""

    epoch: Epoch
    issued_at: float


@dataclass(frozen=True, slots=True)
class AgentPresence:
    """Writes the presence of the agents that are connected to this instance."""

    pool: Pool
    instance_id: InstanceId
    reports: AgentReports
    admitted: dict[AgentId, Admitted] = field(default_factory=dict[AgentId, Admitted])
    """The connections of this instance."""

    async def connect(self, identity: AgentIdentity, hello: Hello, held: HeldBytes | None, address: str) -> Connected:
        """Mark an agent online, write the reports in its hello, and promote its next command. Raises
        ConnectionRejected.

        `held` is the part of the agent's stream that this process has in memory.
        """
        agent_id = identity.id
        async with self.pool.connection() as conn:
            row = await agents.lock(conn, agent_id)
            if row is None:
                raise ConnectionRejected(CloseCode.NOT_FOUND, "This agent is not enrolled here.")
            if row["disabled_at"] is not None:
                raise ConnectionRejected(CloseCode.REVOKED, "This agent is disabled.")
            if row["tokens_after"] is not None and identity.issued_at < row["tokens_after"].timestamp():
                raise ConnectionRejected(CloseCode.REVOKED, "This agent's credentials are revoked.")
            if hello.is_late(row["boot"], row["attempt"]):
                raise ConnectionRejected(CloseCode.GOING_AWAY, LATE_HELLO)
            stream_id, resume, archived, begins_at = await self._resume(conn, row, hello.stream, held)
            epoch = await agents.connected(conn, agent_id, self.instance_id, hello, stream_id)
            actor = audit.Actor("agent", agent_id, row["name"], address)
            await write_problem(conn, row, hello.problem, actor)
            outcome = await self.reports.write_hello(conn, agent_id, stream_id, hello, actor)
            halt = await halts.reach(conn, agent_id)
            await self._supersede(conn, row, epoch)
            await instance_messages.announce(
                conn, AgentConnected(agent_id=agent_id, instance_id=self.instance_id, epoch=epoch)
            )
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
        return Connected(
            row["name"],
            epoch,
            stream_id,
            resume,
            archived,
            begins_at,
            halt_message(halt) if halt is not None else None,
            outcome,
        )

    async def _resume(
        self, conn: Connection, row: DictRow, tail: StreamTail | None, held: HeldBytes | None
    ) -> tuple[StreamId, int, int, int | None]:
        """Resume the agent's stream, or begin a new one: its id, its next offset, the end of its archive, and where it
        begins in the former.

        The caller holds the agent's row.
        """
        agent_id = AgentId(row["id"])
        newest = StreamId(row["stream_id"]) if row["stream_id"] is not None else None
        if tail is None:
            return await archive.create_stream(conn, agent_id), 0, 0, None
        named = StreamId(tail.id)
        if named == newest:
            archived = await archive.end(conn, named)
            offset = resume_offset(tail, archived, held)
            if offset is not None:
                return named, offset, archived, None
        await stream_chains.add_unknown(conn, agent_id, tail)
        # What waits in memory, here or in another instance, is not written any more: the agent sends it again.
        await archive.close(conn, agent_id, [stream for stream in (newest, named) if stream is not None])
        former = await archive.former_output(conn, agent_id, newest, named)
        begins_at = new_stream_offset(tail, former.end)
        if former.newest_at is None or newest is None:
            new = await archive.create_stream(conn, agent_id, named, begins_at)
        else:
            new = await archive.create_stream(conn, agent_id, newest, begins_at - former.newest_at)
        return new, 0, 0, begins_at

    async def _supersede(self, conn: Connection, row: DictRow, epoch: Epoch) -> None:
        """Have the instance that the agent was connected to close its older connection."""
        if row["instance_id"] not in (None, self.instance_id):
            message = InstanceMessage(op="superseded", agent_id=row["id"], epoch=epoch)
            await instance_messages.send(conn, row["instance_id"], message)

    async def disconnect(self, agent_id: AgentId, epoch: Epoch) -> None:
        """Mark an agent offline, unless it has connected again since this epoch."""
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
