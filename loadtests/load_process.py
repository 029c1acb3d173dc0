"""The load, in a process of its own: agents and operators on one asyncio loop, controlled by Locust.

Locust runs on gevent, whose patched sockets would be what is measured. So its users only say, as lines of JSON on this
process's standard input, who comes and goes; what was measured comes back on standard output.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Mapping

import aiohttp
import uvloop
from archived import not_archived
from center import Center, Credentials, session
from fleet_agents import HOLD, FleetAgent
from operators import COMMAND_SECONDS, Operator, keep_signed_in, watch
from pages import Viewer
from picows import WSError
from report import Report, say

STATION_VIEWERS = 5
STORM_SECONDS = 60.0
SETTLE_SECONDS = 60.0


class Fleet:
    """The agents and operators of a load. A station is an agent with five viewers and without commands.

    Each operator signs in with one of `accounts`; when none is left, with the center's own account.
    """

    def __init__(
        self,
        center: Center,
        accounts: list[tuple[str, str]],
        *,
        history: bool,
        archive: bool,
        renewal: float | None,
        pause: float = COMMAND_SECONDS,
    ) -> None:
        self.center = center
        self.report = Report()
        self.agents: list[FleetAgent] = []
        self._operators: list[Operator] = []
        self._viewers: list[Viewer] = []
        self._accounts = accounts
        self._history = history
        self._archive = archive
        self._renewal = renewal
        self._pause = pause
        self._away: set[FleetAgent] = set()
        self._sent: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._run = f"{random.randrange(16**6):06x}"

    # As agents and operators use it

    def arrived(self, text: str) -> None:
        """A command has reached its agent. A repeated offer counts once."""
        if (began := self._began.pop(text, None)) is not None:
            self.report.took("command", "POST → agent", time.monotonic() - began)

    def went(self, agent: FleetAgent) -> None:
        """The agent has lost its connection."""
        self._away.add(agent)

    def came_back(self, agent: FleetAgent) -> None:
        """The agent is connected again."""
        self._away.discard(agent)

    async def send_command(
        self, agent: FleetAgent, *, by: Center | None = None, hold: bool = False
    ) -> tuple[str, float] | None:
        text = f"{HOLD if hold else ''}load {self._run} {next(self._numbers)}"
        self._began[text] = began = time.monotonic()
        try:
            made = await (by or self.center).post(f"/v1/agents/{agent.credentials.agent_id}/commands", {"text": text})
        except (aiohttp.ClientError, TimeoutError) as error:
            self.report.failed("command", "POST", error)
            return None
        self._sent[made["id"]] = "cancelled" if hold else "succeeded"
        self.report.took("command", "POST", time.monotonic() - began)
        return made["id"], began

    # As Locust orders

    async def add(self, who: str) -> None:
        try:
            if who == "operator":
                account = self._accounts.pop() if self._accounts else (self.center.email, self.center.password)
                own = self.center.as_operator(*account)
                operator = Operator(self, own, renewal=self._renewal, pause=self._pause)
                await operator.begin()
                self._operators.append(operator)
                return
            agent = FleetAgent(self, await self._enrol(), history=self._history)
            await agent.begin()
            self.agents.append(agent)
            if who == "station":
                self._viewers += await watch(self.center, self.report, [agent] * STATION_VIEWERS)
        except (aiohttp.ClientError, OSError, WSError, TimeoutError) as error:
            self.report.failed(who, "start", error)

    async def _enrol(self) -> Credentials:
        return await self.center.enrol(f"load-{self._run}-{next(self._numbers)}")

    async def storm(self) -> None:
        """Break all agents' connections at once, while a tenth get commands; measure the time until all are back."""
        for agent in self.agents[: len(self.agents) // 10]:
            await self.send_command(agent)
        self._away = {agent for agent in self.agents if agent.link.usable}
        self.report.count("agents cut off", len(self._away))
        began = time.monotonic()
        for agent in self._away:
            agent.link.cut()
        while self._away and time.monotonic() - began < STORM_SECONDS:  # noqa: ASYNC110 — a bound on waiting
            await asyncio.sleep(0.02)
        if self._away:
            self.report.failed("storm", "all are back", f"{len(self._away)} are not")
        self.report.took("storm", "all are back", time.monotonic() - began)

    async def settle(self) -> None:
        """Stop sending commands and bytes. Check that every command has its expected final state, and that
        every byte is acknowledged, at its viewers and in the archive."""
        await asyncio.gather(*(operator.rest() for operator in self._operators))
        for command_id, wanted in self._sent.items():
            row = await self._ended(command_id, cancel=wanted == "cancelled")
            if row != wanted:
                self.report.failed("command", "end", f"the state is {row}, not {wanted}")
        self.report.count("commands seen to their end", len(self._sent))
        for agent in self.agents:
            agent.rest()
        deadline = time.monotonic() + SETTLE_SECONDS
        for agent in self.agents:
            while not agent.settled and time.monotonic() < deadline:  # noqa: ASYNC110 — a bound on waiting
                await asyncio.sleep(0.02)
            if not agent.settled:
                self.report.failed("agent", "acknowledged", f"{agent.start} bytes of {agent.end}")
        viewers = [*self._viewers, *(viewer for operator in self._operators for viewer in operator.viewers)]
        for viewer in viewers:
            await viewer.see_all(deadline)
        self.report.count("viewers who saw it to the end", len(viewers))
        for operator in self._operators:
            await operator.see_all()
            await operator.stop()
        if self._archive:
            await self._compare_archive()
        self.report.hand_over()

    async def _compare_archive(self) -> None:
        for agent in self.agents:
            try:
                why = await not_archived(self.center, agent, time.monotonic() + SETTLE_SECONDS)
            except (aiohttp.ClientError, TimeoutError) as error:
                why = str(error)
            if why is not None:
                self.report.failed("agent", "archive", why)
            self.report.count("archived bytes compared", agent.end)

    async def _ended(self, command_id: str, *, cancel: bool) -> str:
        """The command's final state, or why it cannot be read. A failed request is repeated."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                row = await self.center.get(f"/v1/commands/{command_id}")
                if row["ended_at"] is not None or time.monotonic() > deadline:
                    return row["state"]
                if cancel and row["cancel_requested_at"] is None:  # that its operator could not
                    await self.center.post(f"/v1/commands/{command_id}/cancel", {})
            except (aiohttp.ClientError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    return f"not to be read ({error})"
            await asyncio.sleep(0.1)

    async def stay_signed_in(self) -> None:
        """Run until cancelled."""
        await keep_signed_in(self.center, self.report, self._renewal, self._viewers, None)

    async def report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.report.hand_over()


async def main(environment: Mapping[str, str]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with session() as http:
        center = Center(environment["LOAD_URL"], http, environment["LOAD_EMAIL"], environment["LOAD_PASSWORD"])
        await center.sign_in()
        fleet = Fleet(
            center,
            [(email, password) for email, password in json.loads(environment["LOAD_ACCOUNTS"])],
            history=environment["LOAD_HISTORY"] == "1",
            archive=environment["LOAD_ARCHIVE"] == "1",
            renewal=float(environment["LOAD_RENEWAL"]) if environment["LOAD_RENEWAL"] else None,
            pause=float(environment["LOAD_PAUSE"]),
        )
        tasks = [asyncio.create_task(work) for work in (fleet.report_for_ever(), fleet.stay_signed_in())]
        while line := await reader.readline():
            match json.loads(line):
                case ["add", str(who)]:
                    await fleet.add(who)
                case ["storm"]:
                    await fleet.storm()
                case ["settle"]:
                    await fleet.settle()
                case order:
                    raise AssertionError(order)
            say({"done": True})
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    uvloop.run(main(os.environ))
