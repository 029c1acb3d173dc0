"""The `instances` table: the API processes that are alive, and the NOTIFY channels that reach them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, Epoch, InstanceId
from onsembl.sql.database import Connection


def channel(instance_id: UUID) -> str:
    """The NOTIFY channel of one instance."""
    return f"onsembl_instance_{instance_id.hex}"


GAP_SECONDS = 15.0
"""A heartbeat that follows the last one after a longer gap shows that heartbeats between them could not be written."""
BROADCAST_CHANNEL = "onsembl_instances"
"""The NOTIFY channel that every instance listens to."""
CONNECTIONS_CHANNEL = "onsembl_connections"
"""The NOTIFY channel that tells every instance which agent has connected where."""
FAILURES_CHANNEL = "onsembl_failures"
"""The NOTIFY channel that tells every instance of wrong guesses at passwords and codes."""


async def register(conn: Connection, address: str) -> InstanceId:
    """Add a row for a process that starts."""
    cursor = await conn.execute("insert into instances (address) values (%s) returning id", [address])
    row = await cursor.fetchone()
    assert row is not None
    return InstanceId(row["id"])


async def heartbeat(conn: Connection, instance_id: InstanceId, address: str) -> bool:
    """Record that the instance is alive; add its row again if a sweep has removed it. Return whether it had.

    After a gap longer than `GAP_SECONDS` the instance counts as reaching the database only from now on
    (`reached_since`).
    """
    cursor = await conn.execute(
        """insert into instances (id, address) values (%(id)s, %(address)s)
           on conflict (id) do update set heartbeat_at = now(), reached_since = case
               when instances.heartbeat_at < now() - make_interval(secs => %(gap)s) then now()
               else instances.reached_since end
           returning xmax = 0 as added""",
        {"id": instance_id, "address": address, "gap": GAP_SECONDS},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["added"]


async def numbers(conn: Connection) -> dict[InstanceId, str]:
    """The number of each instance's last heartbeat: that of the transaction that wrote it, also if an instance of an
    older release did."""
    cursor = await conn.execute("select id, xmin::text as number from instances")
    return {InstanceId(row["id"]): row["number"] for row in await cursor.fetchall()}


async def lock_silent(conn: Connection, numbers: Mapping[InstanceId, str]) -> list[InstanceId]:
    """The instances among these whose last heartbeat still has this number. Until the transaction ends, they can write
    no other one."""
    # A connection that is just being made refers to the row, and this lock does not make it wait.
    cursor = await conn.execute(
        """select instances.id
           from instances join unnest(%s::uuid[], %s::text[]) as silent (id, number)
               on silent.id = instances.id and silent.number = instances.xmin::text
           order by instances.id
           for no key update of instances skip locked""",
        [list(numbers), list(numbers.values())],
    )
    return [InstanceId(row["id"]) for row in await cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Owner:
    """The instance that holds an agent's connection, and the epoch of this connection."""

    instance_id: InstanceId
    address: str
    epoch: Epoch


async def owners(conn: Connection, agent_ids: Collection[AgentId], dead_after: float) -> dict[AgentId, Owner]:
    """The instances that hold the connections of these agents; an agent that no living instance holds is left out.

    An instance is living if it has written a heartbeat within `dead_after` seconds.
    """
    cursor = await conn.execute(
        """select agents.id, instance_id, address, epoch
           from agents join instances on instances.id = agents.instance_id
           where agents.id = any(%s) and status = 'online' and heartbeat_at > now() - make_interval(secs => %s)""",
        [list(agent_ids), dead_after],
    )
    return {
        AgentId(row["id"]): Owner(InstanceId(row["instance_id"]), row["address"], Epoch(row["epoch"]))
        for row in await cursor.fetchall()
    }


async def addresses(conn: Connection, dead_after: float) -> list[str]:
    """The addresses of the instances that take agents and viewers: they have written a heartbeat within `dead_after`
    seconds, and do not drain."""
    cursor = await conn.execute(
        """select distinct address from instances
           where heartbeat_at > now() - make_interval(secs => %s) and draining_since is null""",
        [dead_after],
    )
    return [row["address"] for row in await cursor.fetchall()]


async def all_instances(conn: Connection, dead_after: float) -> list[DictRow]:
    """Every instance with the number of the agents that it holds, oldest first. One is alive that has written a
    heartbeat within `dead_after` seconds."""
    cursor = await conn.execute(
        """select id, address, started_at, extract(epoch from now() - heartbeat_at)::float8 as heartbeat_age,
               heartbeat_at > now() - make_interval(secs => %s) as alive, draining_since,
               (select count(*) from agents where instance_id = instances.id and status = 'online') as agents
           from instances order by started_at, id""",
        [dead_after],
    )
    return await cursor.fetchall()


async def begin_drain(conn: Connection, instance_id: InstanceId) -> None:
    """Record that the instance is about to stop: it takes no more agents and viewers."""
    await conn.execute(
        "update instances set draining_since = now() where id = %s and draining_since is null", [instance_id]
    )


async def remove(conn: Connection, instance_id: InstanceId) -> None:
    """Remove the row of a process that exits or is dead."""
    await conn.execute("delete from instances where id = %s", [instance_id])


async def notify(conn: Connection, instance_id: UUID, payload: str) -> None:
    """Notify one instance when the transaction commits; `payload` has at most 7,999 bytes."""
    await conn.execute("select pg_notify(%s, %s)", [channel(instance_id), payload])


async def broadcast(conn: Connection, payload: str) -> None:
    """Notify every instance when the transaction commits; `payload` has at most 7,999 bytes."""
    await conn.execute("select pg_notify(%s, %s)", [BROADCAST_CHANNEL, payload])


async def announce(conn: Connection, payload: str) -> None:
    """Notify every instance of an agent's connection when the transaction commits."""
    await conn.execute("select pg_notify(%s, %s)", [CONNECTIONS_CHANNEL, payload])


async def tell_failure(conn: Connection, payload: str) -> None:
    """Notify every instance of a wrong guess when the transaction commits; `payload` has at most 7,999 bytes."""
    await conn.execute("select pg_notify(%s, %s)", [FAILURES_CHANNEL, payload])
