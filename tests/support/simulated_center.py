"""A simulated control center: each message, job and failure happens when the test calls for it.

The hub, the agents' records and the SQL statements are real, on a real database; the agents and the worker are
simulated.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import DictRow
from support.simulated_agents import SimulatedAgent, SimulatedLink
from support.simulated_worker import SimulatedWorker

from onsembl.api.auth.agent_keys import AgentIdentity
from onsembl.api.terminals.agent_presence import AgentPresence
from onsembl.api.terminals.agent_reports import AgentReports, cancel_of_ended
from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.hub import Hub
from onsembl.api.terminals.last_lines import LastLines
from onsembl.api.terminals.viewed_terminal import Size
from onsembl.fleet.cancel import request_cancel, request_cancel_all
from onsembl.fleet.commands import CommandContent, send, steer
from onsembl.fleet.halt import begin_halt, lift_halt
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.messages import EndRecorded, Welcome
from onsembl.sql import agents, commands, instances
from onsembl.sql.audit import Actor
from onsembl.sql.database import Pool, connect
from onsembl.tasks import recovery

ANN = Actor("operator", UUID(int=1), "ann", "127.0.0.1")
DEAD_SECONDS = 60.0


class SimulatedCenter:
    """One API instance, one worker and their agents.

    `broken_links` are links that their agents have left, and whose loss the server has not detected yet.
    """

    def __init__(self, url: str, pool: Pool, statements: Pool, folder: Path) -> None:
        self._url = url
        self.pool = pool
        self._statements = statements
        self._folder = folder
        archiver = Archiver(pool, stream_bytes=1024, total_bytes=1024)  # Simulated agents have no output.
        self.hub = Hub(pool, 1024, archiver)
        self.worker = SimulatedWorker(pool, statements, self.hub)
        self.agents: list[SimulatedAgent] = []
        self.broken_links: list[SimulatedLink] = []

    async def start(self, count: int) -> None:
        """Start with `count` enrolled agents that have never connected."""
        async with self.pool.connection() as conn:
            instance = await instances.register(conn, "")
            for number in range(count):
                row = await agents.create(conn, name=f"a{number}", kind="claude", mode="exec", host="", platform="")
                assert row is not None
                self.agents.append(SimulatedAgent(row["id"], self._folder / uuid4().hex))
        self.reports = AgentReports(self.hub, self.pool, self._statements, lambda _row: None, LastLines(self.pool))
        self.presence = AgentPresence(self.pool, instance, self.reports)
        await self.worker.start()

    async def stop(self) -> None:
        """Stop, and empty the database."""
        await self.worker.kill_jobs()
        for agent in self.agents:
            agent.close()
        async with await connect(self._url) as conn:
            # Deleting a few rows takes less time than truncating their tables.
            for table in ("agents", "halts", "instances", "procrastinate_jobs", "procrastinate_workers"):
                await conn.execute(f"delete from {table}")  # type: ignore[arg-type]

    async def rows(self) -> dict[CommandId, DictRow]:
        async with self._statements.connection() as conn:
            cursor = await conn.execute(f"select {commands.COLUMNS} from commands order by seq")
            return {row["id"]: row for row in await cursor.fetchall()}

    async def with_a_problem(self) -> set[AgentId]:
        """The agents that take no command, as the rows say."""
        async with self._statements.connection() as conn:
            cursor = await conn.execute("select id from agents where problem is not null")
            return {row["id"] for row in await cursor.fetchall()}

    # Operators

    async def send(self, agent: SimulatedAgent, priority: int, dispatch: bool) -> CommandId:
        """Send a command. Without `dispatch`, the request breaks off after its transaction has committed."""
        async with self.pool.connection() as conn:
            row = (await send(conn, CommandContent(text="work", priority=priority), agent.id, ANN)).command
        assert row is not None
        if dispatch:
            await self.hub.dispatch(row)
        return row["id"]

    async def steer(self, agent: SimulatedAgent, told: bool) -> CommandId:
        """Send a text into the running turn. Without `told`, the message to the instance is lost."""
        async with self.pool.connection() as conn:
            row = await steer(conn, CommandContent(text="and this"), agent.id, ANN)
        if told:
            await self.hub.sync_agent(agent.id)
        return row["id"]

    async def cancel(self, command_id: CommandId, dispatch: bool) -> None:
        async with self.pool.connection() as conn:
            row = await request_cancel(conn, command_id, ANN, None)
        if dispatch and row is not None:
            await self.hub.dispatch(row)

    async def cancel_all(self, agent: SimulatedAgent) -> None:
        async with self.pool.connection() as conn:
            await agents.lock(conn, agent.id)
            await request_cancel_all(conn, agent.id, ANN, None)

    async def pause(self, agent: SimulatedAgent) -> None:
        async with self.pool.connection() as conn:
            await agents.lock(conn, agent.id)
            await agents.pause(conn, agent.id, "ann")

    async def resume(self, agent: SimulatedAgent) -> None:
        async with self.pool.connection() as conn:
            await agents.lock(conn, agent.id)
            await agents.resume(conn, agent.id)
            await commands.promote(conn, agent.id)

    async def halt(self) -> None:
        async with self.pool.connection() as conn:
            await begin_halt(conn, ANN, None, 2.0)

    async def lift(self) -> None:
        async with self.pool.connection() as conn:
            await lift_halt(conn, ANN)

    # Connections

    async def connect(self, agent: SimulatedAgent) -> None:
        """Connect the agent, which leaves its present link: its hello arrives and is answered."""
        self.leave(agent)
        hello = agent.hello()
        self.hub.disconnect(agent.id, CloseCode.SUPERSEDED, "")
        now = datetime.now().timestamp()
        connected = await self.presence.connect(AgentIdentity(agent.id, "", now, now + 900), hello, None, "")
        self.hub.terminals.pop(agent.id, None)
        self.hub.terminal(agent.id, connected.stream_id, 0, Size(80, 24), connected.epoch)
        link = agent.link = SimulatedLink(agent.id, connected.epoch, agent.boot)
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
                recall=list(connected.hello.recalled),
            )
        )
        self.hub.links[agent.id] = link
        for command_id in connected.hello.ended_before:
            await link.send(cancel_of_ended(command_id))
        for ended in hello.ended:
            await link.send(EndRecorded(command_id=ended.command_id))
        await self.hub.sync_halt(link, connected.halt)
        await self.hub.sync_agent(agent.id)

    def leave(self, agent: SimulatedAgent) -> None:
        """Break the agent's link; the server has not detected that yet."""
        if agent.link is not None:
            self.broken_links.append(agent.link)
            agent.link = None

    async def detect_broken_link(self, link: SimulatedLink) -> None:
        """Let the server detect that a link is broken."""
        self.broken_links.remove(link)
        self.hub.remove_agent(link)
        await self.presence.disconnect(link.agent_id, link.epoch)

    async def receive(self, link: SimulatedLink) -> None:
        """Let the server receive an agent's next report, perhaps late."""
        await self.reports.write(link, link.to_server.popleft())

    # Background work

    async def sync_halt(self) -> None:
        """Let the instance read the halt from the database and send it to its agents."""
        tasks: list[Coroutine[Any, Any, None]] = []
        await self.hub.sync_halt_with_all(tasks.append)
        for task in tasks:
            await task

    async def sync_agent(self, agent_id: AgentId) -> None:
        """Let the instance send the agent what it needs."""
        await self.hub.sync_agent(agent_id)

    async def sweep(self) -> None:
        await recovery.Sweeper(self.pool, DEAD_SECONDS, DEAD_SECONDS).sweep()
