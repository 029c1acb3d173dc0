"""Messages to API instances, sent over Postgres NOTIFY when the sender's transaction commits.

An `InstanceMessage` goes to the one instance that holds an agent's connection, a `Broadcast` to all instances. Both are
JSON. Instances of two releases may run side by side, so the values of `op` must stay readable for the release before.
"""

from __future__ import annotations

from typing import Literal, Protocol
from uuid import UUID

import msgspec
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, instances
from onsembl.sql.database import Connection, Pool


class InstanceMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to one instance about one of its agents.

    `attend`: send the agent the offer or the cancel that its active command needs. `superseded`: close the agent's
    connections that are older than `epoch`; the agent has connected to another instance. `reused`: disconnect the
    agent; one of its refresh tokens was used twice. `credentials_ended`: disconnect the agent; its credentials are
    revoked. `disabled`: disconnect the agent; it is disabled. `leave`: have the agent's program exit. `restart`: have
    the agent's program restart.
    """

    op: Literal["attend", "superseded", "reused", "disabled", "leave", "restart", "credentials_ended"]
    agent_id: UUID
    epoch: int | None = None


class Broadcast(msgspec.Struct, frozen=True, kw_only=True):
    """A message to every instance.

    `operator_changed`: the operator `operator_id` was disabled or enabled. `keys_changed`: the keys that sign agents'
    access tokens, or the lifetime of these tokens, have changed. `operator_keys_changed`: the keys with which the
    built-in Supabase signs operators' tokens have changed. `halt_changed`: a halt was begun or lifted.
    """

    op: Literal["operator_changed", "keys_changed", "operator_keys_changed", "halt_changed"]
    operator_id: UUID | None = None


class AgentConnected(msgspec.Struct, frozen=True, kw_only=True):
    """The message to every instance that an agent has connected to one of them, under this epoch.

    It has a channel of its own, since instances of an earlier release read no such broadcast.
    """

    agent_id: UUID
    instance_id: UUID
    epoch: int


async def send(conn: Connection, instance_id: UUID, message: InstanceMessage) -> None:
    """Send `message` to one instance when the transaction commits."""
    await instances.notify(conn, instance_id, msgspec.json.encode(message).decode())


async def broadcast(conn: Connection, message: Broadcast) -> None:
    """Send `message` to every instance when the transaction commits."""
    await instances.broadcast(conn, msgspec.json.encode(message).decode())


async def announce(conn: Connection, connected: AgentConnected) -> None:
    """Tell every instance where an agent has connected when the transaction commits."""
    await instances.announce(conn, msgspec.json.encode(connected).decode())


class LocalHub(Protocol):
    """The agents that are connected to this process."""

    async def dispatch(self, row: DictRow) -> bool:
        """Send the agent the offer or the cancel that this command's row calls for; False when the agent is not
        connected here."""
        ...


class Dispatcher:
    """Has the instance with the agent's connection inform the agent; if that is this process, without a message."""

    def __init__(self, pool: Pool, local: LocalHub | None = None) -> None:
        self._pool = pool
        self._local = local

    async def dispatch(self, row: DictRow) -> bool:
        """Have the agent sent the offer or the cancel that this command's row calls for; False when the agent is
        offline."""
        if self._local is not None and await self._local.dispatch(row):
            return True
        agent_id = AgentId(row["agent_id"])
        async with self._pool.connection() as conn:
            instance_id = await agents.online_at(conn, agent_id)
            if instance_id is None:
                return False
            await send(conn, instance_id, InstanceMessage(op="attend", agent_id=agent_id))
        return True
