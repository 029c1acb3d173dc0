"""The emergency stop on this instance: the agents that are connected here are told, at once and again when needed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from onsembl.api.terminals.hub import AgentLink, Hub
from onsembl.fleet.halt import order
from onsembl.protocol.messages import Halt, HaltLifted
from onsembl.sql import halts


async def tell_all(hub: Hub, begin: Callable[[Coroutine[Any, Any, None]], object]) -> None:
    """Have every agent here told how it stands: a halt was begun or lifted, or that may have been missed.

    `begin` is given what is to be done for each, beside all else: one agent's full connection keeps no other from
    hearing, nor the caller.
    """
    message = await _message(hub)
    if message is None:
        return
    links = list(hub.links.values())
    for link in links:
        begin(link.send(message))
    if isinstance(message, HaltLifted):
        begin(_offer_again(hub, links))


async def _offer_again(hub: Hub, links: list[AgentLink]) -> None:
    """What these were offered before they heard that they may take it was not taken."""
    for link in links:
        link.offered = None
    await hub.sync_all_agents()


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
