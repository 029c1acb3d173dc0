"""The emergency stop on this instance: the agents that are connected here are told, at once and again when needed."""

from __future__ import annotations

import asyncio

from onsembl.api.hub import AgentLink, Hub
from onsembl.protocol.messages import Halt, HaltLifted
from onsembl.sql import halts
from onsembl.tasks.halt import order


async def tell_all(hub: Hub) -> None:
    """Tell every agent here how it stands: a halt was begun or lifted, or that may have been missed.

    One agent's full connection keeps no other from hearing.
    """
    message = await _message(hub)
    if message is not None:
        await asyncio.gather(*(link.send(message) for link in list(hub.links.values())))
    if isinstance(message, HaltLifted):
        await hub.attend_all()  # what was offered meanwhile was not taken


async def tell(hub: Hub, link: AgentLink, told: Halt | None) -> None:
    """An agent is connected: what was decided since its welcome, which `told` it of a halt or of none."""
    message = await _message(hub)
    if message is None or (isinstance(message, HaltLifted) and told is None):
        return
    if told is None or isinstance(message, HaltLifted) or message.number != told.number:
        await link.send(message)


async def _message(hub: Hub) -> Halt | HaltLifted | None:
    async with hub.pool.connection() as conn:
        newest = await halts.latest(conn)
    if newest is None:
        return None
    return order(newest) if newest["lifted_at"] is None else HaltLifted(number=newest["number"])
