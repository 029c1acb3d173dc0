"""The operators of a load: each signs in, follows the dashboard's state by Realtime, watches terminals, sends commands,
cancels some, and types."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Protocol

import aiohttp
from center import Center
from fleet_agents import FleetAgent
from pages import Dashboard, Viewer
from report import Report

COMMAND_SECONDS = 5.0
"""The average time between two commands of one operator."""
HOLD_EVERY = 5
"""One of this many commands runs until it is cancelled."""
KEY_SECONDS = 1.0
WATCHED = 2
LAST_SECONDS = 10.0
"""The time in which the last requested rows must be on the pages."""
AGAIN_SECONDS = 5.0


class Everybody(Protocol):
    """The part of the fleet that an operator uses."""

    report: Report
    agents: list[FleetAgent]

    async def send_command(
        self, agent: FleetAgent, *, by: Center | None = None, hold: bool = False
    ) -> tuple[str, float] | None:
        """The command's id and the time of its request; None when the request failed."""
        ...


class Operator:
    """An operator with an account or a session of its own, and `watched` open terminals.

    It sends a command about every `pause` seconds. Its token is refreshed every `renewal` seconds, by default after
    half of its lifetime.
    """

    def __init__(
        self,
        fleet: Everybody,
        center: Center,
        watched: int = WATCHED,
        renewal: float | None = None,
        pause: float = COMMAND_SECONDS,
    ) -> None:
        self.fleet = fleet
        self._center = center
        self._watched = watched
        self._renewal = renewal
        self._pause = pause
        self._dashboard = Dashboard(center, fleet.report)
        self._resting = asyncio.Event()
        self._keeping: asyncio.Task[None]
        self._tasks: list[asyncio.Task[None]] = []
        self.viewers: list[Viewer] = []

    async def begin(self) -> None:
        report = self.fleet.report
        began = time.monotonic()
        await self._center.sign_in()
        report.took("operator", "sign in", time.monotonic() - began)
        await self._dashboard.begin()
        agents = self.fleet.agents
        chosen = random.sample(agents, min(self._watched, len(agents)))
        self.viewers = await watch(self._center, report, chosen)
        keeping = keep_signed_in(self._center, report, self._renewal, self.viewers, self._dashboard)
        self._keeping = asyncio.create_task(keeping)
        self._tasks = [asyncio.create_task(work) for work in (self._command(), self._type())]

    async def rest(self) -> None:
        """Send no more commands."""
        self._resting.set()
        await asyncio.gather(*self._tasks)

    async def see_all(self) -> None:
        """Wait until every requested row is on the page; a missing row counts as a failure."""
        await self._dashboard.see_all(time.monotonic() + LAST_SECONDS)

    async def stop(self) -> None:
        self._keeping.cancel()
        for viewer in self.viewers:
            viewer.leave()
        await self._dashboard.stop()

    async def _rests_within(self, seconds: float) -> bool:
        """Wait so long, or until it is to ask for nothing more."""
        try:
            async with asyncio.timeout(seconds):
                return await self._resting.wait()
        except TimeoutError:
            return False

    async def _command(self) -> None:
        number = random.randrange(HOLD_EVERY)
        while not await self._rests_within(random.uniform(0.5, 1.5) * self._pause):
            if not self.fleet.agents:
                continue
            number += 1
            hold = number % HOLD_EVERY == 0
            sent = await self.fleet.send_command(random.choice(self.fleet.agents), by=self._center, hold=hold)
            if sent is not None:
                self._dashboard.asked(*sent)
                if hold:
                    await self._cancel(sent[0])

    async def _cancel(self, command_id: str) -> None:
        try:
            await self._dashboard.until_running(command_id)
            self._dashboard.cancelling(command_id)
            await self._center.post(f"/v1/commands/{command_id}/cancel", {})
        except (aiohttp.ClientError, TimeoutError) as error:
            self._dashboard.not_cancelling(command_id)
            self.fleet.report.failed("dashboard", "cancel → cancelled", error)

    async def _type(self) -> None:
        while not await self._rests_within(random.uniform(0.5, 1.5) * KEY_SECONDS):
            for viewer in self.viewers[:1]:
                viewer.type()


async def watch(center: Center, report: Report, agents: Sequence[FleetAgent]) -> list[Viewer]:
    """Open a viewer for each terminal."""
    viewers: list[Viewer] = []
    for agent in agents:
        viewer = Viewer(center, agent, report)
        began = time.monotonic()
        await viewer.connect()
        report.took("operator", "attach", time.monotonic() - began)
        viewers.append(viewer)
    return viewers


async def keep_signed_in(
    center: Center, report: Report, renewal: float | None, viewers: Sequence[Viewer], dashboard: Dashboard | None
) -> None:
    """Refresh the operator's token before it expires, and pass it to its connections, until cancelled."""
    wait = renewal or center.token_seconds / 2
    while True:
        await asyncio.sleep(wait)
        began = time.monotonic()
        try:
            await center.renew()
        except (aiohttp.ClientError, TimeoutError) as error:
            report.failed("operator", "renew token", error)
            wait = AGAIN_SECONDS
            continue
        wait = renewal or center.token_seconds / 2
        report.took("operator", "renew token", time.monotonic() - began)
        for viewer in viewers:
            viewer.renewed(center.token)
        if dashboard is not None:
            await dashboard.renewed(center.token)
