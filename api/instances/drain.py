"""The drain of an instance that is about to stop: it takes no new agents and viewers, and moves those that it has.

If another instance takes over, the agents are told to reconnect, spread over some seconds, and their viewers follow
them. The presence of an agent on its way is left alone, so that it is not shown as offline. Without another instance,
everybody waits for the next process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response

from onsembl.api.http.problems import Problem
from onsembl.api.instances.affinity import REPEATED
from onsembl.api.reason import reason_of
from onsembl.api.terminals.agent_presence import AgentPresence
from onsembl.api.terminals.hub import Hub
from onsembl.protocol.affinity import machine_of
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.drain import DRAINING_PROBLEM, DrainPlan
from onsembl.protocol.ids import AgentId, Epoch
from onsembl.sql import instances
from onsembl.sql.database import DATABASE_ERRORS, Pool

logger = logging.getLogger(__name__)

DRAINING = "This instance is about to stop. Another one takes over."
DATABASE_SECONDS = 2.0
"""How long the database may take to answer whether there is another instance."""
OTHERS_SECONDS = 0.5
"""The interval at which the drain looks whether another instance still takes over."""
LOOK_SECONDS = 0.05
"""The interval at which the drain looks who is still here."""


def draining() -> Problem:
    """The Problem 503 of an instance that is about to stop."""
    return Problem(503, DRAINING, type=DRAINING_PROBLEM, headers={"Retry-After": "1"})


class Drain:
    """Whether this instance drains, and the agents that it has moved and that have not arrived elsewhere."""

    def __init__(self, hub: Hub, presence: AgentPresence, pool: Pool, address: str, dead_after: float) -> None:
        """`address` is that of this instance; another one that was silent for `dead_after` seconds counts as dead."""
        self._hub = hub
        self._presence = presence
        self._pool = pool
        self._address = address
        self._dead_after = dead_after
        self._others: list[str] = []
        self._moving: dict[AgentId, Epoch] = {}
        self.begun = False

    def is_moving(self, agent_id: AgentId) -> bool:
        """Whether the agent was told to move, and is not known to be elsewhere."""
        return agent_id in self._moving and agent_id in self._hub.terminals

    def refusal(self, headers: Mapping[str, str]) -> Response:
        """The answer to an agent or a viewer that is not taken. Fly's proxy repeats the request at another machine."""
        machines = [machine for address in self._others if (machine := machine_of(address)) is not None]
        if machines and not any(name in headers for name in REPEATED):
            replay = f"instance={random.choice(machines)}"  # noqa: S311 — no secret
            return PlainTextResponse("", 409, {"fly-replay": replay, "cache-control": "no-store"})
        return draining().response()

    async def run(self, longest: float, hurry: asyncio.Event) -> None:
        """Move the agents and viewers to other instances within `longest` seconds, and wait until they have arrived.

        Once `hurry` is set, all are told at once, and nobody is waited for. Without another instance that is alive,
        nobody is moved.
        """
        self.begun = True
        self._others = await self._find_others()
        held = self._held()
        logger.info(
            "Draining: %d agents move to %d other instances" if self._others else "Draining: %d agents (%d others)",
            len(held),
            len(self._others),
            extra={"action": "drain_begun", "agents": len(held), "others": len(self._others)},
        )
        if not self._others:
            return
        began = asked_at = time.monotonic()
        plan = DrainPlan(held, began, longest)
        while self._others:
            step = plan.step(self._held(), time.monotonic())
            for agent_id in step.move:
                self._move(AgentId(agent_id))
            if step.done:
                break
            await _wait(hurry, LOOK_SECONDS)
            if hurry.is_set():
                plan.shorten()
            if time.monotonic() - asked_at >= OTHERS_SECONDS:  # they may be about to stop, too
                self._others, asked_at = await self._find_others(), time.monotonic()
        left = {agent_id: epoch for agent_id, epoch in self._moving.items() if agent_id in self._hub.terminals}
        self._moving.clear()
        await asyncio.gather(*(self._mark_offline(agent_id, epoch) for agent_id, epoch in left.items()))
        took = time.monotonic() - began
        logger.info("Drained in %.1f s", took, extra={"action": "drained", "seconds": took, "left": len(left)})

    async def _find_others(self) -> list[str]:
        """The addresses of the other instances that take agents, which are told that this one does not. Empty also
        when the database does not answer: without it, no agent connects anywhere."""
        try:
            async with asyncio.timeout(DATABASE_SECONDS), self._pool.connection() as conn:
                await instances.begin_drain(conn, self._presence.instance_id)
                alive = await instances.addresses(conn, self._dead_after)
        except (*DATABASE_ERRORS, TimeoutError) as error:
            logger.warning("Other instances cannot be found: %s", reason_of(error), extra={"action": "drain_alone"})
            return []
        return [address for address in alive if address != self._address]

    def _held(self) -> set[AgentId]:
        """The agents that have a connection or a viewer here, or are on their way."""
        moving = {agent_id for agent_id in self._moving if self.is_moving(agent_id)}
        return {*self._hub.links, *(viewer.agent_id for viewer in self._hub.viewers), *moving}

    def _move(self, agent_id: AgentId) -> None:
        """Have the agent reconnect elsewhere; its viewers follow when it is there. Viewers of an agent that is not
        connected reconnect at once."""
        link = self._hub.links.get(agent_id)
        if link is not None:
            self._moving[agent_id] = link.epoch
            self._hub.disconnect(agent_id, CloseCode.DRAINING, DRAINING)
            return
        for viewer in [viewer for viewer in self._hub.viewers if viewer.agent_id == agent_id]:
            viewer.close(CloseCode.DRAINING, DRAINING)

    async def _mark_offline(self, agent_id: AgentId, epoch: Epoch) -> None:
        """Mark an agent offline that has not arrived elsewhere."""
        try:
            async with asyncio.timeout(DATABASE_SECONDS), self._hub.connecting[agent_id]:
                await self._presence.disconnect(agent_id, epoch)
        except (*DATABASE_ERRORS, TimeoutError) as error:  # the row of this instance is removed, so a sweep does it
            logger.warning(
                "An agent could not be marked offline: %s",
                reason_of(error),
                extra={"action": "presence_failed", "agent_id": str(agent_id)},
            )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most this long; not at all once it is set."""
    if event.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
