"""The `instances` table: the API processes that are alive, and the NOTIFY channels that reach them."""

from __future__ import annotations

from uuid import UUID

from onsembl.protocol.ids import InstanceId
from onsembl.sql.database import Connection


def channel(instance_id: UUID) -> str:
    """The NOTIFY channel of one instance."""
    return f"onsembl_instance_{instance_id.hex}"


GAP_SECONDS = 15.0
"""A heartbeat that follows the last one after a longer gap shows that heartbeats between them could not be written."""
BROADCAST_CHANNEL = "onsembl_instances"
"""The NOTIFY channel that every instance listens to."""


async def register(conn: Connection, address: str) -> InstanceId:
    """Add a row for a process that starts."""
    cursor = await conn.execute("insert into instances (address) values (%s) returning id", [address])
    row = await cursor.fetchone()
    assert row is not None
    return InstanceId(row["id"])


async def heartbeat(conn: Connection, instance_id: InstanceId, address: str) -> None:
    """Record that the instance is alive; add its row again if a sweep has removed it.

    After a gap longer than `GAP_SECONDS` the instance counts as reaching the database only from now on
    (`reached_since`).
    """
    await conn.execute(
        """insert into instances (id, address) values (%(id)s, %(address)s)
           on conflict (id) do update set heartbeat_at = now(), reached_since = case
               when instances.heartbeat_at < now() - make_interval(secs => %(gap)s) then now()
               else instances.reached_since end""",
        {"id": instance_id, "address": address, "gap": GAP_SECONDS},
    )


async def remove(conn: Connection, instance_id: InstanceId) -> None:
    """Remove the row of a process that exits."""
    await conn.execute("delete from instances where id = %s", [instance_id])


async def remove_dead(conn: Connection, dead_after: float) -> None:
    """Remove the rows of processes silent for `dead_after` seconds."""
    await conn.execute("delete from instances where heartbeat_at <= now() - make_interval(secs => %s)", [dead_after])


async def notify(conn: Connection, instance_id: UUID, payload: str) -> None:
    """Notify one instance when the transaction commits; `payload` has at most 7,999 bytes."""
    await conn.execute("select pg_notify(%s, %s)", [channel(instance_id), payload])


async def broadcast(conn: Connection, payload: str) -> None:
    """Notify every instance when the transaction commits; `payload` has at most 7,999 bytes."""
    await conn.execute("select pg_notify(%s, %s)", [BROADCAST_CHANNEL, payload])
