"""A control center whose every message, job and death comes when the test says so: the real hub, presence and
statements on a real database, between agents and a worker that are played."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import DictRow
from support.played_agents import Link, PlayedAgent
from support.played_worker import PlayedWorker

from onsembl.api.auth.agent_keys import AgentIdentity
from onsembl.api.terminals.agent_presence import AgentPresence
from onsembl.api.terminals.agent_reports import AgentReports, cancel_of_ended
from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.hub import Hub
from onsembl.api.terminals.terminal import Size
from onsembl.fleet.cancel import request_cancel, request_cancel_all
from onsembl.fleet.command_text import Said
from onsembl.fleet.commands import request_command
from onsembl.fleet.halt import begin_halt, lift_halt
from onsembl.fleet.line import promote
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.messages import EndRecorded, Welcome
from onsembl.sql import agents, commands, instances
from onsembl.sql.audit import Actor
from onsembl.sql.database import Pool, connect
from onsembl.tasks import recovery

ANN = Actor("operator", UUID(int=1), "ann", "127.0.0.1")
DEAD_SECONDS = 60.0


class PlayedCenter:
    """What one API instance and one worker share. `old` are links that the agents have left and the server not yet."""

    def __init__(self, url: str, pool: Pool, statements: Pool, folder: Path) -> None:
        self._url = url
        self.pool = pool
        self._statements = statements
        self._folder = folder
        archiver = Archiver(pool, stream_bytes=1024, total_bytes=1024)  # there is no output here
        self.hub = Hub(pool, 1024, archiver)
        self.worker = PlayedWorker(pool, statements, self.hub)
        self.agents: list[PlayedAgent] = []
        self.old: list[Link] = []

    async def begin(self, count: int) -> None:
        """With so many agents, none of which was ever connected."""
        async with self.pool.connection() as conn:
            instance = await instances.register(conn, "")
            for number in range(count):
                row = await agents.create(conn, name=f"a{number}", kind="shell", mode="exec", host="", platform="")
                assert row is not None
                self.agents.append(PlayedAgent(row["id"], self._folder / uuid4().hex))
        self.reports = AgentReports(self.hub, self.pool, self._statements, lambda _row: None)
        self.presence = AgentPresence(self.pool, instance, self.reports)
        await self.worker.begin()

    async def end(self) -> None:
        """Stop, and leave an empty database."""
        await self.worker.vanish()
        for agent in self.agents:
            agent.close()
        async with await connect(self._url) as conn:
            # Few rows are deleted faster than their tables are truncated.
            for table in ("agents", "halts", "instances", "procrastinate_jobs", "procrastinate_workers"):
                await conn.execute(f"delete from {table}")  # type: ignore[arg-type]

    async def rows(self) -> dict[CommandId, DictRow]:
        async with self._statements.connection() as conn:
            cursor = await conn.execute(f"select {commands.COLUMNS} from commands order by seq")
            return {row["id"]: row for row in await cursor.fetchall()}

    # Operators

    async def send(self, agent: PlayedAgent, priority: int, told: bool) -> CommandId:
        """`told`: the request comes to its end, and does not break off once the row is committed."""
        async with self.pool.connection() as conn:
            row = await request_command(conn, agent.id, Said("work", priority), ANN)
        assert row is not None
        if told:
            await self.hub.dispatch(row)
        return row["id"]

    async def cancel(self, command_id: CommandId, told: bool) -> None:
        async with self.pool.connection() as conn:
            row = await request_cancel(conn, command_id, ANN, None)
        if told and row is not None:
            await self.hub.dispatch(row)

    async def cancel_all(self, agent: PlayedAgent) -> None:
        async with self.pool.connection() as conn:
            await agents.lock(conn, agent.id)
            await request_cancel_all(conn, agent.id, ANN, None)

    async def pause(self, agent: PlayedAgent) -> None:
        async with self.pool.connection() as conn:
            await agents.lock(conn, agent.id)
            await agents.pause(conn, agent.id, "ann")

    async def resume(self, agent: PlayedAgent) -> None:
        async with self.pool.connection() as conn:
            await agents.lock(conn, agent.id)
            await agents.resume(conn, agent.id)
            await promote(conn, agent.id)

    async def halt(self) -> None:
        async with self.pool.connection() as conn:
            await begin_halt(conn, ANN, None, 2.0)

    async def lift(self) -> None:
        async with self.pool.connection() as conn:
            await lift_halt(conn, ANN)

    # Connections

    async def connect(self, agent: PlayedAgent) -> None:
        """The agent's hello arrives, and is answered; a link that it has is left."""
        self.leave(agent)
        hello = agent.hello()
        self.hub.disconnect(agent.id, CloseCode.SUPERSEDED, "")
        now = datetime.now().timestamp()
        connected = await self.presence.connect(AgentIdentity(agent.id, "", now, now + 900), hello, None, "")
        self.hub.terminals.pop(agent.id, None)
        self.hub.terminal(agent.id, connected.stream_id, 0, Size(80, 24))
        link = agent.link = Link(agent.id, connected.epoch, agent.boot)
        await link.send(
            Welcome(
                agent_id=agent.id,
                name=connected.name,
                epoch=connected.epoch,
                stream_id=connected.stream_id,
                resume_offset=0,
                heartbeat_seconds=30.0,
                heartbeat_timeout_seconds=10.0,
                halt=connected.halt,
            )
        )
        self.hub.links[agent.id] = link
        for command_id in connected.ended:
            await link.send(cancel_of_ended(command_id))
        for ended in hello.ended:
            await link.send(EndRecorded(command_id=ended.command_id))
        await self.hub.sync_halt(link, connected.halt)
        await self.hub.sync_agent(agent.id)

    def leave(self, agent: PlayedAgent) -> None:
        """The agent's link breaks; the server has not heard of that yet."""
        if agent.link is not None:
            self.old.append(agent.link)
            agent.link = None

    async def notice(self, link: Link) -> None:
        """The server finds that a link is broken."""
        self.old.remove(link)
        self.hub.remove_agent(link)
        await self.presence.disconnect(link.agent_id, link.epoch)

    async def take(self, link: Link) -> None:
        """A report of an agent arrives, perhaps late."""
        await self.reports.write(link, link.to_server.popleft())

    # What else moves things

    async def tell(self) -> None:
        """The instance hears that a halt was begun or lifted, or cannot tell whether it missed that."""
        tasks: list[Coroutine[Any, Any, None]] = []
        await self.hub.sync_halt_with_all(tasks.append)
        for task in tasks:
            await task

    async def sync_agent(self, agent_id: AgentId) -> None:
        """The instance is asked to see what the agent needs."""
        await self.hub.sync_agent(agent_id)

    async def sweep(self) -> None:
        await recovery.sweep(self.pool, DEAD_SECONDS)
