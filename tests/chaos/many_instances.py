"""Three instances behind an edge with two workers, under faults: agents that run commands, coding agents whose turns
ask, and viewers that come back through the edge. On Fly the edge repeats requests at the agent's machine; elsewhere the
instances relay the agents' terminals. The edge may also be nginx or Caddy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from chaos.parts import PUBLIC_URL, AgentPart, ApiPart, Part, PostgresPart
from chaos.test_soak import NOT_TAKEN_UP, SETTLE_SECONDS, Form, Soak
from support.agents import FINAL, CuttableLink, Operator, until
from support.fly_proxy import FlyProxy, HealthCheck
from support.reverse_proxies import REVERSE_PROXIES, reverse_proxy
from support.server import Api

from onsembl.cli.server.dashboard import dashboard_files
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.attention_notes import NOTES

CLAUDE = Path(__file__).with_name("asking_claude.py")
APP = "onsembl"
MACHINES = ("148ed0a", "148ed0b", "148ed0c")
STEPS = ["tool", "notice", "tool", "notice", "result"]
"""The steps of a turn that asks twice: each permission has a notice."""
VIEWERS = 2
"""Viewers of each agent."""
CHECK = HealthCheck("/readyz", interval=0.5, timeout=2.0)
SOON = {"ONSEMBL_INSTANCE_DEAD_AFTER": "4", "ONSEMBL_DEAD_AFTER": "3"}


@dataclass
class Turn:
    """A command of a coding agent that asks twice."""

    name: str
    agent_id: str
    row: dict = field(default_factory=dict)


class ManyInstances(Soak):
    """A system of several instances. `asking` of the agents are coding agents. Requests go to the machine `first`, if
    there is one, until the test changes that. The instances are on Fly if the edge is `fly`; it is the same proxy if it
    is `relays`, else one of `REVERSE_PROXIES`."""

    expected = (*Soak.expected, 502, 504)
    """A proxy says so of an instance that is killed or stopped."""

    def __init__(
        self, seed: int, stack: AsyncExitStack, form: Form, asking: int, first: str | None = None, edge: str = "fly"
    ) -> None:
        super().__init__(seed, stack, form)
        self._first = first
        self._edge = edge
        self.relay_links: dict[str, CuttableLink] = {}
        """By which each instance is reached by the others."""
        self._asking_count = asking
        self.turns: list[Turn] = []

    async def start(self, postgres: EmbeddedPostgres, folder: Path, **environment: str) -> None:  # type: ignore[override]
        """Start everything, the instances in this environment."""
        self.folder, self.database_url = folder, postgres.url()
        self.postgres = PostgresPart(postgres)
        await asyncio.to_thread(dashboard_files, print)  # a new clone builds its page first
        self.instances = {
            machine: ApiPart(
                folder,
                self.database_url,
                name=machine,
                data=f"data-{machine}",
                ONSEMBL_PUBLIC_URL=PUBLIC_URL,
                **SOON,
                **await self._address(machine),
                **environment,
            )
            for machine in MACHINES
        }
        for machine, link in self.relay_links.items():
            link.lead_to(self.instances[machine].url)
        self.workers = [
            Part(folder, f"worker-{n}", "worker", database_url=self.database_url, **SOON, **environment)
            for n in range(2)
        ]
        for part in (*self.instances.values(), *self.workers):
            await part.start()
            self.stack.push_async_callback(part.stop)
        for part in self.instances.values():
            async with httpx.AsyncClient(base_url=part.url, timeout=30) as http:
                await part.ready(http)
        self.edge_links = {
            machine: await self.stack.enter_async_context(CuttableLink(part.url))
            for machine, part in self.instances.items()
        }
        urls = {machine: link.url for machine, link in self.edge_links.items()}
        edge_url = await self._start_edge(urls)
        self.agents_link = await self.stack.enter_async_context(CuttableLink(edge_url))
        self.viewers_link = await self.stack.enter_async_context(CuttableLink(edge_url))
        http = await self.stack.enter_async_context(httpx.AsyncClient(base_url=edge_url, timeout=30))
        api = Api(edge_url, self.database_url, http)
        account = await api.operator()
        self.token, self.operator = account.access_token, Operator(api, account)
        await self._start_agents()

    async def _start_edge(self, urls: dict[str, str]) -> str:
        """Start the edge before the machines with these URLs, and return its URL."""
        if self._edge in REVERSE_PROXIES:
            proxy = reverse_proxy(self._edge, self.folder / "edge", list(urls.values()))
            return await self.stack.enter_async_context(proxy)
        self.edge = await self.stack.enter_async_context(FlyProxy(urls, first=self._first, check=CHECK))
        self.stack.callback(lambda: print(f"{len(self.edge.repeated)} requests repeated, {self.edge.failed} failed"))
        return self.edge.url

    async def _address(self, machine: str) -> dict[str, str]:
        """The settings that say how the other instances reach this one."""
        if self._edge == "fly":
            return {"FLY_MACHINE_ID": machine, "FLY_APP_NAME": APP}
        link = self.relay_links[machine] = await self.stack.enter_async_context(CuttableLink(""))
        return {"ONSEMBL_INSTANCE_ADDRESS": urlsplit(link.url).netloc}

    async def _start_agents(self) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "claude").symlink_to(CLAUDE)
        (self.folder / "stages").mkdir()
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "STAGES": str(self.folder / "stages"),
            "ONSEMBL_KEYRING": "off",
        }
        self.ids, self.parts, self.asking = [], [], []
        for number in range(self.form.agents + self._asking_count):
            name, state = f"agent-{number}", self.folder / f"state-{number}"
            kind = "shell" if number < self.form.agents else "claude"
            agent = AgentPart(self.folder, name, state, **environment)
            (self.ids if kind == "shell" else self.asking).append(
                await agent.enrol(self.operator.api, name, state, self.agents_link.url, kind)
            )
            await agent.start()
            self.stack.push_async_callback(agent.stop)
        await until(self._all_online, "the agents")  # so that each viewer begins at its agent's instance
        for agent_id in (*self.ids, *self.asking):
            self.steady += [self._viewer(agent_id) for _ in range(VIEWERS)]

    # Faults

    def kinds(self) -> dict[Callable[[], Awaitable[None]], str]:
        """The faults, each with the part that it disturbs."""
        between = {self.cut_relays: "relays", self.hold_relays: "relays"} if self._edge != "fly" else {}
        return between | {
            self.cut_agents: "agents' link",
            self.sever_agents: "agents' link",
            self.hold_agents: "agents' link",
            self.cut_viewers: "viewers' link",
            self.hold_viewers: "viewers' link",
            self.cut_edge: "edge",
            self.hold_edge: "edge",
            self.kill_instance: "instance",
            self.stop_instance: "instance",
            self.drain_instance: "instance",
            self.kill_worker: "worker",
            self.stop_worker: "worker",
        }

    async def cut_edge(self) -> None:
        """All connections between the edge and one instance end."""
        self.chance.choice(list(self.edge_links.values())).cut()

    async def hold_edge(self) -> None:
        """Nothing passes in one direction between the edge and one instance."""
        await self._hold(self.chance.choice(list(self.edge_links.values())))

    async def cut_relays(self) -> None:
        """All connections of other instances to one instance end."""
        self.chance.choice(list(self.relay_links.values())).cut()

    async def hold_relays(self) -> None:
        """Nothing passes in one direction between one instance and the others."""
        await self._hold(self.chance.choice(list(self.relay_links.values())))

    async def kill_instance(self) -> None:
        await self._instance().kill()
        await self._while()  # it starts again

    async def stop_instance(self) -> None:
        await self._stop(self._instance())

    async def drain_instance(self) -> None:
        await self._instance().drain()

    def _instance(self) -> ApiPart:
        return self.chance.choice(list(self.instances.values()))

    async def kill_worker(self) -> None:
        await self.chance.choice(self.workers).kill()

    async def stop_worker(self) -> None:
        await self._stop(self.chance.choice(self.workers))

    # What operators do

    async def read_pages(self) -> None:
        """Have the coding agents run turns, and answer what they ask."""
        async with asyncio.TaskGroup() as group:
            for agent_id in self.asking:
                group.create_task(self._run_turns(agent_id))

    async def _run_turns(self, agent_id: str) -> None:
        while self._sending:
            turn = Turn(f"turn-{len(self.turns)}", agent_id)
            self.turns.append(turn)
            turn.row = await self._insist(
                "POST",
                f"/v1/agents/{agent_id}/commands",
                json={"text": turn.name},
                headers={"Idempotency-Key": turn.name},
            )
            while self._sending and turn.row["state"] not in FINAL:
                await self._answer(turn)

    async def _answer(self, turn: Turn) -> None:
        """Answer what the turn asks, and see whether it has ended."""
        page = await self._insist("GET", f"/v1/attention?state=open&command_id={turn.row['id']}")
        for asked in page["requests"]:
            if asked["kind"] in NOTES:  # the turn has just failed
                continue
            answer = {"digest": asked["digest"], "decision": {"decision": "allow"}}
            await self.call("POST", f"/v1/attention/{asked['id']}/answer", json=answer)
        turn.row = await self._insist("GET", f"/v1/commands/{turn.row['id']}")
        await asyncio.sleep(0.1)

    async def _settle_turn(self, turn: Turn) -> None:
        """Wait for the turn's end. Raises AssertionError when it does not come: faults are over by now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while turn.row["state"] not in FINAL:
                    await self._answer(turn)
                return
        raise AssertionError(f"--seed {self.seed}: stuck: {turn.row}")

    # What holds afterwards

    async def check(self) -> None:
        """Raises AssertionError, with all that is wrong."""
        await asyncio.gather(*map(self._settle_turn, self.turns))
        await super().check()
        # One after the other: the client takes more time for each of a thousand requests that wait than they do.
        wrong = [finding for turn in self.turns for finding in await self._wrong_with_turn(turn)]
        ends: dict[str, int] = {}
        for sent in self.sent:
            if sent.row["stream_id"] is not None and sent.row["output_end"] is not None:
                ends[sent.row["stream_id"]] = max(ends.get(sent.row["stream_id"], 0), sent.row["output_end"])

        async def all_seen() -> bool:
            return all(viewer.offset >= ends.get(viewer.stream_id or "", 0) for viewer in self.steady)

        try:
            await until(all_seen, "the viewers have all bytes", SEEN_SECONDS)
        except TimeoutError:
            wrong += [
                f"viewer {number} was left at byte {viewer.offset} of {ends[viewer.stream_id]}"
                for number, viewer in enumerate(self.steady)
                if viewer.offset < ends.get(viewer.stream_id or "", 0)
            ]
        print(f"{len(self.turns)} turns")
        assert wrong == [], f"--seed {self.seed}:\n" + "\n".join(wrong)

    async def _wrong_with_turn(self, turn: Turn) -> list[str]:
        """The CLI was told each answer once, and each step is there once; of a turn that was not taken up it knows
        nothing."""
        if turn.row["error"] == NOT_TAKEN_UP:
            begun = list((self.folder / "stages").glob(f"{turn.name}.*"))
            return [f"{turn.name} was not taken up, but has {begun}"] if begun else []
        wrong = [] if turn.row["state"] == "succeeded" else [f"{turn.name} is {turn.row['state']}: {turn.row['error']}"]
        told = (self.folder / "stages" / f"{turn.name}.told").read_text().splitlines()
        if [line.split()[:2] for line in told] != [["1", "allow"], ["2", "allow"]]:
            wrong.append(f"{turn.name} was told {told}")
        page = await self._insist("GET", f"/v1/attention?command_id={turn.row['id']}")
        for asked in page["requests"]:
            if (asked["state"], asked["delivery"]) != ("answered", "given"):
                wrong.append(f"a request of {turn.name} is {asked['state']}, {asked['delivery']}")
        steps: list[dict] = []

        async def complete() -> bool:
            nonlocal steps
            steps = (await self._insist("GET", f"/v1/commands/{turn.row['id']}/steps"))["steps"]
            return [step["kind"] for step in sorted(steps, key=lambda step: step["number"])] == STEPS

        try:
            await until(complete, "the steps", SEEN_SECONDS)
        except TimeoutError:
            wrong.append(f"{turn.name} has the steps {[(step['number'], step['kind']) for step in steps]}")
        return wrong


SEEN_SECONDS = 60.0
"""How long the last bytes may take to each viewer, and the last steps to the server."""
