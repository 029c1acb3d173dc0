"""The load itself, in a process of its own: agents and operators on one asyncio loop, told what to do by Locust.

Locust runs on gevent, whose patched sockets would be what is measured. So its users only say, as lines of JSON on this
process's standard input, who comes and goes; what was measured comes back on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from center import Center, Credentials, session
from clients import LoadAgent, LoadViewer
from picows import WSError

HEADER = struct.Struct("<QI")
"""When a chunk was sent (nanoseconds of the monotonic clock), and how long it is, this included."""
TRAFFIC: list[tuple[float, int]] = json.loads((Path(__file__).parent / "traffic.json").read_text())
"""A recorded terminal: when each chunk came, in seconds, and how long it was."""
COMMAND_SECONDS = 5.0
REFRESH_SECONDS = 60.0
WATCHED = 2
RECONNECT_SECONDS = 2.0
"""Agents that were cut off come back within so long, each at a moment of its own."""


class Report:
    """What was measured, by row of Locust's table; handed over twice a second."""

    def __init__(self) -> None:
        self._times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._errors: list[tuple[str, str, str]] = []

    def took(self, kind: str, name: str, seconds: float) -> None:
        self._times[kind, name].append(round(seconds * 1000, 3))

    def failed(self, kind: str, name: str, why: object) -> None:
        self._errors.append((kind, name, f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)))

    def hand_over(self) -> None:
        times, self._times = self._times, defaultdict(list)
        errors, self._errors = self._errors, []
        rows = [{"kind": kind, "name": name, "ms": values} for (kind, name), values in times.items()]
        if rows or errors:
            say({"rows": rows, "errors": errors})


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Viewer(LoadViewer):
    """Reads framed chunks: one that is missing, doubled or changed breaks the frames."""

    def __init__(self, url: str, agent: Agent, token: str, report: Report) -> None:
        super().__init__(url, agent.credentials.agent_id, token, 1, [])
        self._report = report
        self._broken = False
        self._began: int | None = None

    def _take(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.bytes += len(data)
        if self._broken:
            return
        data = self._rest + data
        at = 0
        while len(data) - at >= HEADER.size:
            sent, length = HEADER.unpack_from(data, at)
            if not HEADER.size <= length <= 70_000 or not 0 <= now - sent < 600_000_000_000:
                self._broken = True
                self._report.failed("terminal", "agent → viewer", "bytes are missing")
                return
            if len(data) - at < length:
                break
            self._report.took("terminal", "agent → viewer", (now - sent) / 1e9)
            at += length
        self._rest = data[at:]


class Agent:
    """One agent: streams the recording over and over, takes commands, rotates its tokens, comes back when cut off."""

    def __init__(self, fleet: Fleet, credentials: Credentials) -> None:
        self.fleet = fleet
        self.credentials = credentials
        self.link: LoadAgent
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._connect()
        self._tasks = [asyncio.create_task(work) for work in (self._stream(), self._stay())]

    async def _connect(self) -> None:
        began = time.monotonic()
        self.link = LoadAgent(self.fleet.arrived)
        await self.link.connect(self.fleet.center.url, self.credentials.access_token)
        self.fleet.report.took("agent", "connect", time.monotonic() - began)

    async def _stay(self) -> None:
        while True:
            await self.link.gone
            self.fleet.away.add(self)
            while True:
                await asyncio.sleep(random.uniform(0, RECONNECT_SECONDS))
                try:
                    await self._connect()
                    break
                except (OSError, WSError, TimeoutError) as error:
                    self.fleet.report.failed("agent", "connect", error)
            self.fleet.away.discard(self)

    async def _stream(self) -> None:
        await asyncio.sleep(random.uniform(0, TRAFFIC[-1][0]))
        while True:
            began = time.monotonic()
            for at, length in TRAFFIC:
                if (wait := began + at - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if not self.link.gone.done():
                    size = max(length, HEADER.size)
                    self.link.send(HEADER.pack(time.monotonic_ns(), size) + bytes(size - HEADER.size))
            await asyncio.sleep(1.0)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.link.leave()


class Operator:
    """One operator: signs in, watches terminals, sends commands."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._task: asyncio.Task[None] | None = None
        self._viewers: list[Viewer] = []

    async def start(self) -> None:
        began = time.monotonic()
        await self.fleet.center.sign_in()
        self.fleet.report.took("operator", "sign in", time.monotonic() - began)
        for agent in random.sample(self.fleet.agents, min(WATCHED, len(self.fleet.agents))):
            await self._watch(agent)
        self._task = asyncio.create_task(self._work())

    async def _watch(self, agent: Agent) -> None:
        viewer = Viewer(self.fleet.center.url, agent, self.fleet.center.token, self.fleet.report)
        began = time.monotonic()
        await viewer.connect()
        self.fleet.report.took("operator", "attach", time.monotonic() - began)
        self._viewers.append(viewer)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5) * COMMAND_SECONDS)
            if self.fleet.agents:
                await self.fleet.send_command(random.choice(self.fleet.agents))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        for viewer in self._viewers:
            viewer.leave()


class Fleet:
    """Everybody."""

    def __init__(self, center: Center) -> None:
        self.center = center
        self.report = Report()
        self.agents: list[Agent] = []
        self.operators: list[Operator] = []
        self.away: set[Agent] = set()
        self.sent: list[str] = []
        self._began: dict[str, float] = {}
        self._numbers = iter(range(1, sys.maxsize))
        self._run = f"{random.randrange(16**6):06x}"

    def arrived(self, text: str) -> None:
        """A command is at its agent; offered again, it counts once."""
        if (began := self._began.pop(text, None)) is not None:
            self.report.took("command", "POST → agent", time.monotonic() - began)

    async def send_command(self, agent: Agent) -> None:
        text = f"load {self._run} {next(self._numbers)}"
        self._began[text] = began = time.monotonic()
        try:
            made = await self.center.post(f"/v1/agents/{agent.credentials.agent_id}/commands", {"text": text})
        except (aiohttp.ClientError, TimeoutError) as error:
            self.report.failed("command", "POST", error)
            return
        self.sent.append(made["id"])
        self.report.took("command", "POST", time.monotonic() - began)

    async def add(self, who: str) -> None:
        try:
            if who == "agent":
                name = f"load-{self._run}-{next(self._numbers)}"
                agent = Agent(self, await self.center.enrol(name))
                await agent.start()
                self.agents.append(agent)
            else:
                operator = Operator(self)
                await operator.start()
                self.operators.append(operator)
        except (aiohttp.ClientError, OSError, WSError, TimeoutError) as error:
            self.report.failed(who, "start", error)

    def remove(self, who: str) -> None:
        leaving = self.agents if who == "agent" else self.operators
        if leaving:
            leaving.pop().stop()

    async def storm(self) -> None:
        """Cut every agent off at once; how long until the last is back."""
        for agent in self.agents[: len(self.agents) // 10]:
            await self.send_command(agent)
        began = time.monotonic()
        for agent in self.agents:
            agent.link.cut()
        await asyncio.sleep(0.5)
        while self.away and time.monotonic() - began < 60:  # noqa: ASYNC110 — a bound on waiting
            await asyncio.sleep(0.02)
        if self.away:
            self.report.failed("storm", "all are back", f"{len(self.away)} are not")
        self.report.took("storm", "all are back", time.monotonic() - began)

    async def settle(self) -> None:
        """See that every command came to its end, and every byte into the archive."""
        for command_id in self.sent:
            async with asyncio.timeout(60):
                while True:
                    row = await self.center.get(f"/v1/commands/{command_id}")
                    if row["ended_at"] is not None:
                        break
                    await asyncio.sleep(0.1)
            if row["state"] != "succeeded":
                self.report.failed("command", "end", f"it is {row['state']}")
        self.report.hand_over()

    async def report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.report.hand_over()


async def main(url: str, email: str, password: str) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with session() as http:
        center = Center(url, http, email, password)
        await center.sign_in()
        fleet = Fleet(center)
        reporting = asyncio.create_task(fleet.report_for_ever())
        while line := await reader.readline():
            match json.loads(line):
                case ["add", str(who)]:
                    await fleet.add(who)
                case ["remove", str(who)]:
                    fleet.remove(who)
                case ["storm"]:
                    await fleet.storm()
                case ["settle"]:
                    await fleet.settle()
                case order:
                    raise AssertionError(order)
            say({"done": True})
        reporting.cancel()


if __name__ == "__main__":
    uvloop.run(main(os.environ["LOAD_URL"], os.environ["LOAD_EMAIL"], os.environ["LOAD_PASSWORD"]))
