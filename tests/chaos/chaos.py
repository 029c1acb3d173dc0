"""A whole system of processes under faults, with agents that write and viewers that read."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import httpx
from chaos.parts import ApiPart, ChaosViewer, Part, PostgresPart
from chaos.writer import BEGIN, END, expected
from support.agents import FINAL, CuttableLink, Operator, agent_running, until
from support.archive import continued, until_archived
from support.server import Api

from onsembl.cli.server.dashboard import dashboard_files
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.ids import StreamId
from onsembl.sql import archive
from onsembl.sql.database import connect

FLOW_SECONDS = 120.0
"""How long it may take on a slow machine until bytes flow again after a fault."""
WRITER = Path(__file__).with_name("writer.py")

Fault = Callable[[], Awaitable[None]]


LONG_SEEN_BYTES = 2048
"""So many bytes after a byte, a viewer has had it for a while."""


class Chaos:
    """A whole system with agents and viewers, and the faults that can be caused in it.

    `steady` viewers stay until the end; `visitors` come during the run, and `left` are those that have left.
    """

    def __init__(self, seed: int, stack: AsyncExitStack, agents: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.stack = stack
        self._count = agents
        self.steady: list[ChaosViewer] = []
        self.visitors: list[ChaosViewer] = []
        self.left: list[ChaosViewer] = []
        self.done: Counter[str] = Counter()
        self._unfinished: set[asyncio.Task[None]] = set()

    async def start(self, postgres: EmbeddedPostgres, folder: Path, **environment: str) -> None:
        """Start everything, the API in this environment, and wait for the first bytes."""
        await self.start_server(postgres, folder, **environment)
        self.agents = [
            await self.stack.enter_async_context(
                agent_running(self.operator.api, folder, f"agent-{n}", server=self.agents_link.url)
            )
            for n in range(self._count)
        ]
        for number, agent in enumerate(self.agents):
            for _ in range(2):
                self.steady.append(self._viewer(agent.id, END % number))
        self.commands = [
            await self.operator.send(
                agent.id, f"{sys.executable} {WRITER} {number} {folder}/stop {folder}/count-{number}"
            )
            for number, agent in enumerate(self.agents)
        ]
        await until(self._all_flow, "the first bytes")

    async def start_server(self, postgres: EmbeddedPostgres, folder: Path, **environment: str) -> None:
        """Start the API and the worker, sign an operator in, and open the links for agents and viewers."""
        url = postgres.url()
        self.folder = folder
        self.database_url = url
        self.postgres = PostgresPart(postgres)
        self.api = ApiPart(folder, url, **environment)
        self.worker = Part(
            folder, "worker", "worker", "--data-dir", str(folder / "data"), database_url=url, **environment
        )
        # A new clone builds its page first, which may take longer than an API has time to be ready.
        await asyncio.to_thread(dashboard_files, print)
        for part in (self.api, self.worker):
            await part.start()
            self.stack.push_async_callback(part.stop)
        http = await self.stack.enter_async_context(httpx.AsyncClient(base_url=self.api.url, timeout=30))
        await self.api.ready(http)
        api = Api(self.api.url, url, http)
        account = await api.operator()
        self.token = account.access_token
        self.operator = Operator(api, account)
        self.agents_link = await self.stack.enter_async_context(CuttableLink(self.api.url))
        self.viewers_link = await self.stack.enter_async_context(CuttableLink(self.api.url))

    def _viewer(self, agent_id: str, wanted: bytes | None = None) -> ChaosViewer:
        viewer = ChaosViewer(self.viewers_link, agent_id, self.token, wanted=wanted)
        self.stack.push_async_callback(viewer.leave)
        return viewer

    async def _all_flow(self) -> bool:
        return all(BEGIN % (index // 2) in viewer.seen for index, viewer in enumerate(self.steady))

    # Faults

    async def cut_agents(self) -> None:
        self.agents_link.cut()

    async def cut_viewers(self) -> None:
        self.viewers_link.cut()

    async def sever_agents(self) -> None:
        await self._sever(self.agents_link)

    async def sever_viewers(self) -> None:
        await self._sever(self.viewers_link)

    async def _sever(self, link: CuttableLink) -> None:
        link.sever()
        await asyncio.sleep(self.chance.uniform(0.05, 1.5))
        link.mend()

    async def attach_visitor(self) -> None:
        self.visitors.append(self._viewer(self.chance.choice(self.agents).id))

    async def detach_visitor(self) -> None:
        if not self.visitors:
            await self.attach_visitor()
        viewer = self.visitors.pop(self.chance.randrange(len(self.visitors)))
        self.left.append(viewer)
        await self._has_bytes(viewer)
        await viewer.leave()

    async def _has_bytes(self, viewer: ChaosViewer) -> None:
        async def has_bytes() -> bool:
            return bool(viewer.seen)

        await until(has_bytes, "a visitor's first bytes")

    async def pause_viewer(self) -> None:
        resumed = asyncio.Event()
        asyncio.get_running_loop().call_later(self.chance.uniform(0.2, 2.0), resumed.set)
        await self.chance.choice([*self.steady, *self.visitors]).pause(resumed)

    async def kill_api(self) -> None:
        await self.api.kill()
        await self.api.ready(self.operator.api.http)

    async def kill_api_before_it_archives(self) -> None:
        """Kill it when the first agent's viewers have bytes that the archive has not, after it wrote a batch; some of
        them for a while, so that an agent had the time to be told of them."""
        viewer = self.steady[0]
        assert viewer.stream_id is not None
        stream = StreamId(UUID(viewer.stream_id))
        async with await connect(self.database_url, role="onsembl_api", autocommit=True) as conn:
            before = archived = await archive.end(conn, stream)
            seen = viewer.offset

            async def is_behind() -> bool:
                nonlocal archived, seen
                end = await archive.end(conn, stream)
                if end != archived:
                    archived, seen = end, max(end, viewer.offset)
                return before < end and seen + LONG_SEEN_BYTES < viewer.offset

            await until(is_behind, "bytes that are not archived")
        await self.kill_api()

    async def kill_worker(self) -> None:
        await self.worker.kill()

    async def kill_postgres(self) -> None:
        await self.postgres.kill()

    def choose_faults(self, count: int) -> list[Fault]:
        """A random order of `count` faults, with each kind at least once."""
        kinds: dict[Fault, int] = {
            self.cut_agents: 28,
            self.cut_viewers: 20,
            self.sever_agents: 8,
            self.sever_viewers: 8,
            self.attach_visitor: 10,
            self.detach_visitor: 8,
            self.pause_viewer: 8,
            self.kill_api: 4,
            self.kill_worker: 3,
            self.kill_postgres: 3,
        }
        faults = [*kinds, *self.chance.choices(list(kinds), weights=list(kinds.values()), k=count - len(kinds))]
        self.chance.shuffle(faults)
        return faults

    async def run(self, faults: Iterable[Fault]) -> None:
        """Cause the faults, each while bytes flow: a fault in a part that is down already would test nothing.

        Now and then an uncounted fault is caused during another one.
        """
        for fault in faults:
            self.done[fault.__name__] += 1
            tasks = [asyncio.ensure_future(fault())]
            if self.chance.random() < 0.2:
                await asyncio.sleep(self.chance.uniform(0, 0.5))
                another = self.chance.choice([self.cut_agents, self.cut_viewers, self.attach_visitor])
                tasks.append(asyncio.ensure_future(another()))
            if fault in (self.detach_visitor, self.pause_viewer):
                self._unfinished.update(tasks)
            else:
                await asyncio.gather(*tasks)
            await self._flow()
        await asyncio.gather(*self._unfinished)
        for visitor in self.visitors:
            await self._has_bytes(visitor)

    async def _flow(self) -> None:
        """Wait until each steady viewer has new bytes that no viewer of its agent had before."""
        wanted = self.chance.randrange(1, 20_000)
        before = [max(one.offset, other.offset) for one, other in zip(self.steady[::2], self.steady[1::2], strict=True)]
        async with asyncio.timeout(FLOW_SECONDS):
            while any(viewer.offset < before[index // 2] + wanted for index, viewer in enumerate(self.steady)):
                await asyncio.sleep(0.01)

    async def check_end(self) -> None:
        """Stop the writers, and compare: the archive and every steady viewer have exactly the written bytes, and every
        visitor has them from its first byte on."""
        await self.api.ready(self.operator.api.http)
        (self.folder / "stop").touch()
        rows = []
        for command in self.commands:
            async with asyncio.timeout(120):
                rows.append(await self.operator.until_state(command, *FINAL))
        assert [row["state"] for row in rows] == ["succeeded"] * len(rows)
        async with asyncio.timeout(120):
            await asyncio.gather(*(viewer.task for viewer in self.steady))
        whole: dict[str, bytes] = {}
        for number, pair in enumerate(zip(self.steady[::2], self.steady[1::2], strict=True)):
            stream = pair[0].stream_id
            assert stream is not None
            count = int((self.folder / f"count-{number}").read_text())
            written = BEGIN % number + expected(number, count) + END % number
            assert not await continued(self.database_url, stream), f"the archive differs; seed {self.seed}"
            whole[stream] = await until_archived(self.database_url, stream, rows[number]["output_end"])
            print(f"agent {number}: {count} bytes")
            assert written in whole[stream], f"the archive differs; seed {self.seed}"
            for viewer in pair:
                assert viewer.faults == [], f"seed {self.seed}"
                assert viewer.start == 0 and written in viewer.seen, f"a viewer differs; seed {self.seed}"
        for viewer in [*self.visitors, *self.left, *self.steady]:
            assert viewer.stream_id is not None and viewer.seen, f"a visitor saw nothing; seed {self.seed}"
            assert whole[viewer.stream_id].startswith(viewer.seen, viewer.start), f"a visitor differs; seed {self.seed}"


ACKNOWLEDGED_BEFORE_IT_IS_ARCHIVED = """
import asyncio
from onsembl.api.terminals import agent_socket
from onsembl.api.terminals import archiver
from onsembl.protocol.messages import Acknowledged

async def acknowledge(session, terminal):
    acknowledged = 0
    while True:
        if terminal.inbox.end > acknowledged:
            acknowledged = terminal.inbox.end
            await session.send(Acknowledged(offset=acknowledged))
        await asyncio.sleep(0.01)

agent_socket.AgentSession._acknowledge = acknowledge
archiver.BATCH_SECONDS = 3.0  # Between two batches, some bytes are not archived yet.
"""
"""A guard that a test removes: an acknowledgement waits for the archive."""
