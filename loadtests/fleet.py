"""The load itself, in a process of its own: agents and operators on one asyncio loop, told what to do by Locust.

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

import aiohttp
import uvloop
from center import Center, Credentials, session
from fleet_agents import HOLD, FleetAgent
from operators import Operator, Viewer, watch
from picows import WSError
from report import Report, say

STATION_VIEWERS = 5
STORM_SECONDS = 60.0


class Fleet:
    """Everybody. A station is an agent that five watch and nobody commands."""

    def __init__(self, center: Center, *, history: bool) -> None:
        self.center = center
        self.report = Report()
        self.agents: list[FleetAgent] = []
        self._operators: list[Operator] = []
        self._viewers: list[Viewer] = []
        self._history = history
        self._away: set[FleetAgent] = set()
        self._sent: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._run = f"{random.randrange(16**6):06x}"

    # As agents and operators use it

    def arrived(self, text: str) -> None:
        """A command is at its agent; offered again, it counts once."""
        if (began := self._began.pop(text, None)) is not None:
            self.report.took("command", "POST → agent", time.monotonic() - began)

    def went(self, agent: FleetAgent) -> None:
        """It is cut off."""
        self._away.add(agent)

    def came_back(self, agent: FleetAgent) -> None:
        """It is connected again."""
        self._away.discard(agent)

    async def send_command(self, agent: FleetAgent, *, hold: bool = False) -> tuple[str, float] | None:
        text = f"{HOLD if hold else ''}load {self._run} {next(self._numbers)}"
        self._began[text] = began = time.monotonic()
        try:
            made = await self.center.post(f"/v1/agents/{agent.credentials.agent_id}/commands", {"text": text})
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
                operator = Operator(self)
                await operator.begin()
                self._operators.append(operator)
                return
            agent = FleetAgent(self, await self._enrol(), history=self._history)
            await agent.begin()
            self.agents.append(agent)
            if who == "station":
                self._viewers += await watch(self, [agent] * STATION_VIEWERS)
        except (aiohttp.ClientError, OSError, WSError, TimeoutError) as error:
            self.report.failed(who, "start", error)

    async def _enrol(self) -> Credentials:
        return await self.center.enrol(f"load-{self._run}-{next(self._numbers)}")

    async def storm(self) -> None:
        """Cut every agent off at once, with commands on their way to a tenth; how long until the last is back."""
        for agent in self.agents[: len(self.agents) // 10]:
            await self.send_command(agent)
        began = time.monotonic()
        for agent in self.agents:
            agent.link.cut()
        await asyncio.sleep(0.5)
        while self._away and time.monotonic() - began < STORM_SECONDS:  # noqa: ASYNC110 — a bound on waiting
            await asyncio.sleep(0.02)
        if self._away:
            self.report.failed("storm", "all are back", f"{len(self._away)} are not")
        self.report.took("storm", "all are back", time.monotonic() - began)

    async def settle(self) -> None:
        """Nothing more is asked for; see that every command came to the end that it should."""
        for operator in self._operators:
            await operator.stop()
        for command_id, wanted in self._sent.items():
            row = await self._ended(command_id, cancel=wanted == "cancelled")
            if row != wanted:
                self.report.failed("command", "end", f"it is {row}, not {wanted}")
        self.report.hand_over()

    async def _ended(self, command_id: str, *, cancel: bool) -> str:
        deadline = time.monotonic() + 60
        while True:
            row = await self.center.get(f"/v1/commands/{command_id}")
            if row["ended_at"] is not None or time.monotonic() > deadline:
                return row["state"]
            if cancel and row["cancel_requested_at"] is None:  # its operator left before
                await self.center.post(f"/v1/commands/{command_id}/cancel", {})
            await asyncio.sleep(0.1)

    async def report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.report.hand_over()


async def main(url: str, email: str, password: str, *, history: bool) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with session() as http:
        center = Center(url, http, email, password)
        await center.sign_in()
        fleet = Fleet(center, history=history)
        reporting = asyncio.create_task(fleet.report_for_ever())
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
        reporting.cancel()


if __name__ == "__main__":
    environment = os.environ
    uvloop.run(
        main(
            *(environment["LOAD_URL"], environment["LOAD_EMAIL"], environment["LOAD_PASSWORD"]),
            history=environment["LOAD_HISTORY"] == "1",
        )
    )
