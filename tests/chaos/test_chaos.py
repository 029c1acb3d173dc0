"""Terminals under faults: whatever dies, what viewers see, what the archive holds and what was written are the same.

`ONSEMBL_CHAOS_FAULTS` is their number in the long form (200, no fewer than 10), `ONSEMBL_CHAOS_SEED` what they follow
from; a run prints its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from chaos.parts import ApiPart, ChaosViewer, Part, PostgresPart
from chaos.writer import BEGIN, END, expected
from support.agents import FINAL, CuttableLink, Operator, agent_running, until
from support.archive import until_archived
from support.missing_guards import without
from support.server import Api

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

SHORT, LONG = 12, int(os.environ.get("ONSEMBL_CHAOS_FAULTS", "200"))
SEED = int(os.environ.get("ONSEMBL_CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
FLOW_SECONDS = 120.0
"""How long it may take, on a slow machine, until bytes flow again after a fault."""
WRITER = Path(__file__).with_name("writer.py")

Fault = Callable[[], Awaitable[None]]


class Chaos:
    """Everything that runs, and what can be done to it."""

    def __init__(self, chance: random.Random, stack: AsyncExitStack, agents: int) -> None:
        self.chance = chance
        self.stack = stack
        self._count = agents
        self.steady: list[ChaosViewer] = []
        self.visitors: list[ChaosViewer] = []
        self.left: list[ChaosViewer] = []
        self.done: Counter[str] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()

    async def begin(self, postgres: EmbeddedPostgres, folder: Path, **environment: str) -> None:
        """Start all of it, the API in this environment, and wait for the first bytes."""
        url = postgres.url()
        self.folder = folder
        self.database_url = url
        self.postgres = PostgresPart(postgres)
        self.api = ApiPart(folder, url, **environment)
        self.worker = Part(folder, "worker", "worker", "--data-dir", str(folder / "data"), database_url=url)
        for part in (self.api, self.worker):
            await part.start()
            self.stack.push_async_callback(part.end)
        http = await self.stack.enter_async_context(httpx.AsyncClient(base_url=self.api.url, timeout=30))
        await self.api.ready(http)
        api = Api(self.api.url, url, http, None)  # type: ignore[arg-type]
        account = await api.operator()
        self.token = account.access_token
        self.operator = Operator(api, account)
        self.agents_link = await self.stack.enter_async_context(CuttableLink(self.api.url))
        self.viewers_link = await self.stack.enter_async_context(CuttableLink(self.api.url))
        self.agents = [
            await self.stack.enter_async_context(agent_running(api, folder, f"agent-{n}", server=self.agents_link.url))
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

    def _viewer(self, agent_id: str, wanted: bytes | None = None) -> ChaosViewer:
        viewer = ChaosViewer(self.viewers_link, agent_id, self.token, wanted=wanted)
        self.stack.push_async_callback(viewer.leave)
        return viewer

    async def _all_flow(self) -> bool:
        return all(BEGIN % (index // 2) in viewer.seen for index, viewer in enumerate(self.steady))

    # What can be done to it

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

    async def come(self) -> None:
        self.visitors.append(self._viewer(self.chance.choice(self.agents).id))

    async def go(self) -> None:
        if not self.visitors:
            await self.come()
        viewer = self.visitors.pop(self.chance.randrange(len(self.visitors)))
        self.left.append(viewer)
        await self._has_seen(viewer)
        await viewer.leave()

    async def _has_seen(self, viewer: ChaosViewer) -> None:
        async def sees() -> bool:
            return bool(viewer.seen)

        await until(sees, "what a visitor sees")

    async def be_stuck(self) -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(self.chance.uniform(0.2, 2.0), over.set)
        await self.chance.choice([*self.steady, *self.visitors]).be_stuck(over)

    async def kill_api(self) -> None:
        await self.api.kill()
        await self.api.ready(self.operator.api.http)

    async def kill_worker(self) -> None:
        await self.worker.kill()

    async def kill_postgres(self) -> None:
        await self.postgres.kill()

    def order(self, faults: int) -> list[Fault]:
        """So many faults, of each kind at least one."""
        kinds: dict[Fault, int] = {
            self.cut_agents: 28,
            self.cut_viewers: 20,
            self.sever_agents: 8,
            self.sever_viewers: 8,
            self.come: 10,
            self.go: 8,
            self.be_stuck: 8,
            self.kill_api: 4,
            self.kill_worker: 3,
            self.kill_postgres: 3,
        }
        order = [*kinds, *self.chance.choices(list(kinds), weights=list(kinds.values()), k=faults - len(kinds))]
        self.chance.shuffle(order)
        return order

    async def run(self, order: Iterable[Fault]) -> None:
        """These faults, each while bytes flow: one that strikes what is down already is none. Now and then one more,
        which does not count, strikes while another lasts."""
        for fault in order:
            self.done[fault.__name__] += 1
            tasks = [asyncio.ensure_future(fault())]
            if self.chance.random() < 0.2:
                await asyncio.sleep(self.chance.uniform(0, 0.5))
                another = self.chance.choice([self.cut_agents, self.cut_viewers, self.come])
                tasks.append(asyncio.ensure_future(another()))
            if fault in (self.go, self.be_stuck):
                self._under_way.update(tasks)
            else:
                await asyncio.gather(*tasks)
            await self._flow()
        await asyncio.gather(*self._under_way)
        for visitor in self.visitors:
            await self._has_seen(visitor)

    async def _flow(self) -> None:
        """Until each viewer that stays has seen more than any of its agent had before."""
        wanted = self.chance.randrange(1, 20_000)
        before = [max(one.place, other.place) for one, other in zip(self.steady[::2], self.steady[1::2], strict=True)]
        async with asyncio.timeout(FLOW_SECONDS):
            while any(viewer.place < before[index // 2] + wanted for index, viewer in enumerate(self.steady)):
                await asyncio.sleep(0.01)

    async def ends_right(self) -> None:
        """The writers end; what they wrote is in the archive and was seen, byte for byte, by every viewer that stayed,
        and from its first byte by each that came and went."""
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
            whole[stream] = await until_archived(self.database_url, stream, rows[number]["output_end"])
            print(f"agent {number}: {count} bytes")
            assert written in whole[stream], f"the archive differs; seed {SEED}"
            for viewer in pair:
                assert viewer.faults == [], f"seed {SEED}"
                assert viewer.start == 0 and written in viewer.seen, f"a viewer differs; seed {SEED}"
        for viewer in [*self.visitors, *self.left, *self.steady]:
            assert viewer.stream_id is not None and viewer.seen, f"a visitor saw nothing; seed {SEED}"
            assert whole[viewer.stream_id].startswith(viewer.seen, viewer.start), f"a visitor differs; seed {SEED}"


@pytest.mark.seconds(60)
@pytest.mark.parametrize(
    ("faults", "agents"),
    [(SHORT, 2), pytest.param(LONG, 3, marks=[pytest.mark.soak, pytest.mark.timeout(600 + LONG * 5)])],
)
async def test_what_was_written_is_archived_and_seen(own_postgres, tmp_path, faults, agents):
    """Whatever is cut, severed, stuck or killed meanwhile."""
    print(f"ONSEMBL_CHAOS_SEED={SEED} ONSEMBL_CHAOS_FAULTS={faults}")
    async with AsyncExitStack() as stack:
        chaos = Chaos(random.Random(SEED), stack, agents)
        await chaos.begin(own_postgres, tmp_path)
        await chaos.run(chaos.order(faults))
        print(f"done: {dict(chaos.done)}, {len(chaos.left)} visitors left, {len(chaos.visitors)} stayed")
        assert chaos.left, "nobody came and went"
        await chaos.ends_right()


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
archiver.BATCH_SECONDS = 3.0  # so that some bytes are never archived yet
"""
SEEN_TWICE = """
from onsembl.api.terminals import viewer
from onsembl.protocol.ring import AttachAnswer

def attach(ring, stream_id, wanted_stream, wanted_offset, upto=0):
    return AttachAnswer("tail" if wanted_stream is None else "exact", ring.start)

viewer.attach = attach
"""


@pytest.mark.parametrize(
    ("patch", "fault", "found"),
    [
        (ACKNOWLEDGED_BEFORE_IT_IS_ARCHIVED, Chaos.kill_api, "the archive differs"),
        (SEEN_TWICE, Chaos.cut_viewers, r"a (viewer|visitor) differs"),
    ],
    ids=["an early acknowledgement", "a viewer that begins anew"],
)
async def test_a_missing_guard_is_found(own_postgres, tmp_path, patch, fault, found):
    """One fault of the right kind shows that bytes are lost or come twice."""
    async with AsyncExitStack() as stack:
        chaos = Chaos(random.Random(SEED), stack, agents=1)
        await chaos.begin(own_postgres, tmp_path, **without(tmp_path / "guard", patch))
        await chaos.run([fault.__get__(chaos)])
        with pytest.raises(AssertionError, match=found):
            await chaos.ends_right()
