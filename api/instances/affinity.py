"""Brings viewers to the instance that holds their agent's connection.

On Fly an instance that is asked for another one's terminal answers the request, before the WebSocket is accepted, with
the header `fly-replay`: Fly's proxy then repeats the request at that machine
(https://fly.io/docs/networking/dynamic-request-routing/). A request that was repeated once is served where it arrives.
Where it cannot be repeated, the instance relays the terminal (`relays.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping

from starlette.responses import PlainTextResponse, Response

from onsembl.protocol.affinity import KeptMachines, machine_of, preferred
from onsembl.protocol.ids import AgentId
from onsembl.sql import instances
from onsembl.sql.database import DATABASE_ERRORS, Pool
from onsembl.sql.instances import Owner

logger = logging.getLogger(__name__)

REPEATED = ("fly-replay-src", "fly-replay-failed")
"""The headers of a request that Fly's proxy has repeated, or could not repeat."""


class Affinity:
    """Where the viewers of agents belong, as this instance knows it."""

    def __init__(self, pool: Pool, address: str, dead_after: float) -> None:
        """`address` is that of this instance; one that was silent for `dead_after` seconds counts as dead."""
        self._pool = pool
        self._address = address
        self._machine = machine_of(address)
        self._dead_after = dead_after
        self._kept = KeptMachines()

    async def replay(self, headers: Mapping[str, str], agent_id: AgentId) -> Response | None:
        """The answer with which Fly's proxy repeats a viewer's request at the agent's machine; None when it is to be
        served here."""
        if self._machine is None or any(name in headers for name in REPEATED):
            return None
        now = time.monotonic()
        known, machine = self._kept.get(agent_id, now)
        if not known:
            try:
                machine = await self._find(agent_id)
            except DATABASE_ERRORS as error:
                logger.warning("An agent's instance cannot be read: %s", error, extra={"action": "affinity_failed"})
                return None
            self._kept.keep(agent_id, machine, now)
        if machine is None or machine == self._machine:
            return None
        return PlainTextResponse("", 409, {"fly-replay": f"instance={machine}", "cache-control": "no-store"})

    async def _find(self, agent_id: AgentId) -> str | None:
        async with self._pool.connection() as conn:
            owner = (await instances.owners(conn, [agent_id], self._dead_after)).get(agent_id)
            if owner is not None:
                return machine_of(owner.address)
            alive = await instances.addresses(conn, self._dead_after)
        machines = {machine for address in alive if (machine := machine_of(address)) is not None}
        return preferred(machines, agent_id)

    async def elsewhere(self, agent_ids: Collection[AgentId]) -> dict[AgentId, Owner]:
        """Which of these agents are connected to other living instances, and to which. Raises psycopg.Error or
        PoolTimeout.

        An instance with the same address is one that ran here before.
        """
        async with self._pool.connection() as conn:
            owners = await instances.owners(conn, agent_ids, self._dead_after)
        return {agent_id: owner for agent_id, owner in owners.items() if owner.address != self._address}

    def forget(self, agent_id: AgentId | None = None) -> None:
        """Read the instance of an agent again, or of all: it has connected somewhere."""
        self._kept.forget(agent_id)
