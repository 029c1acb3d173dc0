"""An instance that gets SIGTERM moves its agents and viewers to another one: nothing is lost, and nobody waits long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from chaos.parts import ApiPart
from support.agents import FINAL, Operator, until
from support.archive import until_archived
from support.fly_proxy import FlyProxy
from support.frames import HELLO_TEXT, attach, close_code, next_message
from support.missing_guards import without
from support.moving_agents import FollowingViewer, MovingAgent
from support.page import built_page
from support.reverse_proxies import REVERSE_PROXIES, reverse_proxy
from support.server import Account, Api, running
from websockets.exceptions import InvalidStatus

from onsembl.protocol.affinity import fly_address
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.drain import DRAINING_PROBLEM
from onsembl.sql.database import connect

MACHINES = ("e2865", "148ed")
PUBLIC = "https://onsembl.example"
LONGEST_PAUSE = 2.0
PATIENT_SECONDS = 60.0
PATIENT = f"""
from onsembl.protocol import drain

drain.SETTLE_SECONDS = {PATIENT_SECONDS}
"""
"""Lets the drain wait for agents and viewers on a busy machine."""
WRITE_SECONDS = 0.1
"""How often each agent writes; many agents write less often, so that this process and the machine are not the limit."""
MOST_WRITES = 400
"""Writes a second of all agents together."""
ALLOW = {"decision": {"decision": "allow"}}


@dataclass
class Fleet:
    """Two machines behind a proxy, an operator, and agents with their viewers, all of which write and watch."""

    database_url: str
    url: str
    """Of the proxy."""
    proxy: FlyProxy | None
    """None where the proxy is another one than Fly's."""
    parts: dict[str, ApiPart]
    operator: Operator
    account: Account
    agents: list[MovingAgent] = field(default_factory=list)
    viewers: list[FollowingViewer] = field(default_factory=list)
    _writing: asyncio.Task[None] | None = None

    async def populate(self, api: Api, agents: int, viewers: int) -> None:
        """Connect the agents, on Fly to the first machine, and viewers to them."""
        if self.proxy is not None:
            self.proxy.first = MACHINES[0]
        for number in range(agents):
            self.agents.append(MovingAgent(self.url, await api.enrol(f"agent-{number}", "claude")))
        for agent in self.agents:
            await agent.online.wait()
        for number in range(viewers):
            agent = self.agents[number % agents]
            self.viewers.append(FollowingViewer(self.url, agent.enrolled.id, self.account.access_token))
        for viewer in self.viewers:
            await viewer.attached.wait()
        if self.proxy is not None:
            self.proxy.first = None
        self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        interval = max(WRITE_SECONDS, len(self.agents) / MOST_WRITES)

        async def write(agent: MovingAgent) -> None:
            number = 0
            while True:
                number += 1
                await agent.write(b"%d of %s\r\n" % (number, agent.enrolled.name.encode()))
                await asyncio.sleep(interval)

        async with asyncio.TaskGroup() as tasks:  # a connection that closes delays its own agent alone
            for agent in self.agents:
                tasks.create_task(write(agent))

    async def ask(self, count: int) -> list[dict]:
        """Give agents commands, and wait until each asks; one more command waits behind each."""
        commands = [await self.send(agent) for agent in self.agents[:count]]
        await until(self._all_ask(count), "requests")
        return commands + [await self.send(agent) for agent in self.agents[:count]]

    async def send(self, agent: MovingAgent) -> dict:
        return await self.operator.send(agent.enrolled.id, "test it", conversation="latest")

    def _all_ask(self, count: int):
        async def all_ask() -> bool:
            return len(await self._open_requests()) >= count

        return all_ask

    async def _open_requests(self) -> list[dict]:
        answer = await self.operator.api.http.get(
            "/v1/attention", params={"state": "open", "limit": 200}, headers=self.operator.headers
        )
        answer.raise_for_status()
        return answer.json()["requests"]

    async def answer_all(self, commands: list[dict]) -> None:
        """Answer requests until each command has succeeded."""
        left = {command["id"]: command for command in commands}
        async with asyncio.timeout(60 + len(commands)):
            while left:
                for request in await self._open_requests():
                    await self.operator.api.http.post(
                        f"/v1/attention/{request['id']}/answer",
                        json=ALLOW | {"digest": request["digest"]},
                        headers=self.operator.headers,
                    )
                for command in list(left.values()):
                    row = await self.operator.read(command)
                    if row["state"] in FINAL:
                        assert row["state"] == "succeeded", row
                        del left[command["id"]]

    async def settle(self) -> None:
        """Stop writing, and wait until each viewer and the archive have what was written."""
        assert self._writing is not None
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        written = {agent.enrolled.id: bytes(agent.output) for agent in self.agents}

        async def all_seen() -> bool:
            return all(viewer.start + len(viewer.seen) >= len(written[viewer.agent_id]) for viewer in self.viewers)

        await until(all_seen, "every viewer has seen the end")
        for viewer in self.viewers:
            assert viewer.faults == []
            assert bytes(viewer.seen) == written[viewer.agent_id][viewer.start :]
        for agent in self.agents:
            assert agent.stream_id is not None
            output = written[agent.enrolled.id]
            assert await until_archived(self.database_url, agent.stream_id, len(output)) == output

    async def leave(self) -> None:
        for follower in (*self.viewers, *self.agents):
            await follower.leave()

    async def times_offline(self) -> int:
        """How often an agent was marked offline."""
        async with await connect(self.database_url) as conn:
            cursor = await conn.execute("select count(*) as count from audit where action = 'agent.disconnected'")
            row = await cursor.fetchone()
            assert row is not None
            return row["count"]


@asynccontextmanager
async def fleet(
    folder: Path, database_url: str, edge: str = "fly", **environment: str
) -> AsyncGenerator[tuple[Fleet, Api]]:
    """Two machines, behind Fly's proxy or one of `REVERSE_PROXIES`. The operator uses the second one."""
    parts = dict[str, ApiPart]()
    await asyncio.to_thread(built_page)
    async with AsyncExitStack() as stack:
        for machine in MACHINES:
            (folder / machine).mkdir()
            fly = {"FLY_MACHINE_ID": machine, "FLY_APP_NAME": "onsembl"} if edge == "fly" else {}
            settings = {"ONSEMBL_PUBLIC_URL": PUBLIC, **fly, **environment}
            parts[machine] = part = ApiPart(folder / machine, database_url, worker=True, **settings)
            await part.start()
            stack.push_async_callback(part.stop)
        https = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=part.url, timeout=60)) for part in parts.values()
        ]
        for part, http in zip(parts.values(), https, strict=True):
            await part.ready(http)
        urls = {machine: part.url for machine, part in parts.items()}
        proxy = await stack.enter_async_context(FlyProxy(urls)) if edge == "fly" else None
        url = (
            proxy.url
            if proxy is not None
            else await stack.enter_async_context(reverse_proxy(edge, folder / "proxy", list(urls.values())))
        )
        api = Api(parts[MACHINES[1]].url, database_url, https[1])
        account = await api.operator()
        made = Fleet(database_url, url, proxy, parts, Operator(api, account), account)
        try:
            yield made, api
        finally:
            await made.leave()


async def replaced(made: Fleet, machine: str) -> None:
    """The process of the machine is stopped and started again, as a deploy does."""
    part = made.parts[machine]
    await part.stop()
    await part.start()
    async with httpx.AsyncClient(base_url=part.url, timeout=60) as http:
        await part.ready(http)
    for agent in made.agents:
        await agent.online.wait()


@pytest.mark.parametrize(
    ("agents", "viewers", "turns", "longest_pause", "edge"),
    [
        (10, 20, 5, PATIENT_SECONDS / 2, "fly"),
        *(
            pytest.param(10, 20, 5, PATIENT_SECONDS / 2, edge, id=edge, marks=pytest.mark.package)
            for edge in REVERSE_PROXIES
        ),
        pytest.param(200, 400, 50, LONGEST_PAUSE, "fly", marks=[pytest.mark.load, pytest.mark.timeout(600)]),
    ],
)
async def test_a_drain_under_load_loses_nothing(tmp_path, database_url, agents, viewers, turns, longest_pause, edge):
    """Bytes, commands and questions survive, no agent is shown as offline, and no viewer waits for more than 2 s (in
    the short form, for the end of the drain). They also survive the replacement of the only instance that is left."""
    async with fleet(tmp_path, database_url, edge, **without(tmp_path / "patient", PATIENT)) as (made, api):
        await made.populate(api, agents, viewers)
        commands = await made.ask(turns)
        offline = await made.times_offline()
        for viewer in made.viewers:
            viewer.watch()
        began = time.monotonic()
        await made.parts[MACHINES[0]].stop()
        took = time.monotonic() - began
        commands += [await made.send(agent) for agent in made.agents[:turns]]
        for agent in made.agents:
            await agent.online.wait()
        for viewer in made.viewers:
            await viewer.attached.wait()
            viewer.progress()
        pauses = sorted(viewer.longest_pause for viewer in made.viewers)
        print(
            f"drained {agents} agents and {viewers} viewers in {took:.2f} s; "
            f"a viewer's longest pause: median {pauses[len(pauses) // 2]:.2f} s, most {pauses[-1]:.2f} s"
        )
        assert pauses[-1] <= longest_pause
        if made.proxy is not None:
            assert {target for _, target in made.proxy.repeated} <= {MACHINES[1]}
        assert await made.times_offline() == offline
        await replaced(made, MACHINES[1])
        await made.settle()
        await made.answer_all(commands)
        for agent in made.agents[:turns]:
            assert len(agent.accepted) == len(set(agent.accepted)) == len(agent.answers) == 3


@pytest.mark.soak
async def test_a_rolling_deploy_loses_nothing(tmp_path, database_url):
    """Two machines are replaced, one after the other, twice. (The short form is the drain under load.)"""
    async with fleet(tmp_path, database_url, **without(tmp_path / "patient", PATIENT)) as (made, api):
        await made.populate(api, 10, 20)
        commands = await made.ask(5)
        offline = await made.times_offline()
        for machine in (*MACHINES, *MACHINES):
            await replaced(made, machine)
        assert await made.times_offline() == offline
        await made.settle()
        await made.answer_all(commands)


@pytest.mark.no_worker
async def test_an_instance_that_drains_sends_others_elsewhere(settings):
    """It is not ready, and refuses agents and viewers; on Fly, their requests are repeated at another machine. An agent
    that does not arrive there is offline when the drain ends, which a second signal brings about at once."""
    first, second = (
        replace(settings, public_url=PUBLIC, address=f"{fly_address(machine, 'onsembl')}:8400") for machine in MACHINES
    )
    async with running(first) as one, running(second) as two:
        agent, late, operator = await one.enrol("moves"), await one.enrol("late"), await one.operator()

        async def status() -> str:
            return (await two.http.get(f"/v1/agents/{agent.id}", headers=operator.headers)).json()["status"]

        async with one.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")
            hurry = asyncio.Event()
            draining = asyncio.create_task(one.services.drain.run(10.0, hurry))
            assert await close_code(socket) == CloseCode.DRAINING
        assert await status() == "online"
        answer = await one.http.get("/readyz")
        assert (answer.status_code, answer.json()["type"]) == (503, DRAINING_PROBLEM)
        assert (await two.http.get("/readyz")).status_code == 200
        assert (await one.http.get(f"/v1/agents/{late.id}", headers=operator.headers)).status_code == 200
        with pytest.raises(InvalidStatus) as replayed:
            await one.agent_socket(late)
        assert replayed.value.response.headers["fly-replay"] == f"instance={MACHINES[1]}"
        for refused in (late.id, str(uuid4())):
            with pytest.raises(InvalidStatus) as problem:
                await one.terminal_socket(refused, additional_headers={"fly-replay-src": "instance=148ed"})
            assert problem.value.response.status_code == 503
            assert DRAINING_PROBLEM.encode() in (problem.value.response.body or b"")
        async with one.terminal_socket(agent.id) as viewer:  # whose agent may still be on its way
            await attach(viewer, operator.access_token)
            assert not draining.done()
            hurry.set()
            await draining
        assert await status() == "offline"
