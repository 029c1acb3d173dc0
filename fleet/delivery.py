"""How a job reaches the agent's connection, which one API instance holds."""

from __future__ import annotations

import logging
from typing import Literal, Protocol
from uuid import UUID

import msgspec
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, instances
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance is told of one of its agents, as JSON.

    `attend`: see what the agent's active command needs (an offer, a cancel) and send it. `superseded`: the agent has
    connected elsewhere, under this epoch. `reused`: a refresh token of it came twice. `disabled`: it is. `leave`,
    `restart`: its program is to end, or to start anew.
    `credentials_ended`: what it holds is not good any more, for it has logged out or was given others.
    """

    op: Literal["attend", "superseded", "reused", "disabled", "leave", "restart", "credentials_ended"]
    agent_id: UUID
    epoch: int | None = None


class LocalHub(Protocol):
    """The agents' connections in this process."""

    async def hand_out(self, row: DictRow) -> bool:
        """Send a command's agent what that needs, by its row; False when the agent's connection is not here."""
        ...


class Delivery:
    """Tells the instance that holds an agent to attend to its command: in memory when it is this process."""

    def __init__(self, pool: Pool, local: LocalHub | None = None) -> None:
        self._pool = pool
        self._local = local

    async def attend(self, row: DictRow) -> bool:
        """Have the command of this row attended to. Whether some instance was told; False when its agent is offline."""
        if self._local is not None and await self._local.hand_out(row):
            return True
        agent_id = AgentId(row["agent_id"])
        async with self._pool.connection() as conn:
            instance_id = await agents.online_at(conn, agent_id)
            if instance_id is None:
                return False
            notice = Notice(op="attend", agent_id=agent_id)
            await instances.notify(conn, instance_id, msgspec.json.encode(notice).decode())
        return True
