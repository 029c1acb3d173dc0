"""The `instances` table: the API processes that are alive, and how to tell one of them something."""

from __future__ import annotations

from uuid import UUID

from onsembl.protocol.ids import InstanceId
from onsembl.sql.database import Connection


def channel(instance_id: UUID) -> str:
    """The NOTIFY channel on which one instance is told what concerns its agents."""
    return f"onsembl_instance_{instance_id.hex}"


GAP_SECONDS = 15.0
"""A heartbeat that comes so long after the last says that there were some that could not be written."""
EVERY_INSTANCE = "onsembl_instances"
"""The NOTIFY channel on which all of them are told something."""


async def register(conn: Connection, address: str) -> InstanceId:
    """A row for a process that starts."""
    cursor = await conn.execute("insert into instances (address) values (%s) returning id", [address])
    row = await cursor.fetchone()
    assert row is not None
    return InstanceId(row["id"])


async def heartbeat(conn: Connection, instance_id: InstanceId, address: str) -> None:
    """Say that the instance lives; its row is written again if a sweep removed it meanwhile.

    After a silence longer than `GAP_SECONDS` it has reached the database only since now.
    """
    await conn.execute(
        """insert into instances (id, address) values (%(id)s, %(address)s)
           on conflict (id) do update set heartbeat_at = now(), reached_since = case
               when instances.heartbeat_at < now() - make_interval(secs => %(gap)s) then now()
               else instances.reached_since end""",
        {"id": instance_id, "address": address, "gap": GAP_SECONDS},
    )


async def remove(conn: Connection, instance_id: InstanceId) -> None:
    """The process ends in good order."""
    await conn.execute("delete from instances where id = %s", [instance_id])


async def remove_dead(conn: Connection, dead_after: float) -> None:
    """Remove the rows of processes silent for `dead_after` seconds."""
    await conn.execute("delete from instances where heartbeat_at <= now() - make_interval(secs => %s)", [dead_after])


async def notify(conn: Connection, instance_id: UUID, payload: str) -> None:
    """Tell an instance something, once the transaction is committed; at most 7,999 bytes."""
    await conn.execute("select pg_notify(%s, %s)", [channel(instance_id), payload])


async def announce(conn: Connection, payload: str) -> None:
    """Tell every instance something, once the transaction is committed; at most 7,999 bytes."""
    await conn.execute("select pg_notify(%s, %s)", [EVERY_INSTANCE, payload])
