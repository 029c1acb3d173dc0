"""The `hosts` table: machines on which agents can be started from elsewhere; and `agent_starts`, the requests to them.

A host is connected while its last request is recent, which the database's clock decides. Only the SHA-256 hash of its
secret is stored. A request of an earlier epoch than the host's last connection changes nothing.
"""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.hosting import HELD_SECONDS, START_SECONDS, HostOffer, StartOutcome
from onsembl.protocol.ids import AgentId
from onsembl.sql.database import Connection
from onsembl.sql.enrolment import digest

CHANNEL = "onsembl_hosts"
"""Notified when a request was made or has changed."""
COLUMNS = """id, name, machine, platform, kinds, folders, max_agents, running, epoch, created_at,
    coalesce(connected_until > now(), false) as connected"""
START_COLUMNS = "id, host_id, name, kind, folder, requested_at, state, reason, agent_id"
LEASE_SECONDS = HELD_SECONDS + 20.0
"""How long a host counts as connected after its last request."""
KEPT_DAYS = 30
"""How long requests are kept that are over; the audit log keeps what they were."""


async def create(conn: Connection, *, name: str, machine: str, platform: str, secret: str) -> DictRow | None:
    """Add a host; None when the name is taken."""
    cursor = await conn.execute(
        f"""insert into hosts (name, secret_hash, machine, platform) values (%s, %s, %s, %s)
            on conflict (name) do nothing
            returning {COLUMNS}""",
        [name, digest(secret), machine, platform],
    )
    return await cursor.fetchone()


async def by_secret(conn: Connection, secret: str) -> DictRow | None:
    """The host that holds this secret."""
    cursor = await conn.execute(f"select {COLUMNS} from hosts where secret_hash = %s", [digest(secret)])
    return await cursor.fetchone()


async def list_hosts(conn: Connection) -> list[DictRow]:
    """Every host, by name."""
    cursor = await conn.execute(f"select {COLUMNS} from hosts order by name")
    return await cursor.fetchall()


async def get(conn: Connection, host_id: UUID) -> DictRow | None:
    """One host's row."""
    cursor = await conn.execute(f"select {COLUMNS} from hosts where id = %s", [host_id])
    return await cursor.fetchone()


async def delete(conn: Connection, host_id: UUID) -> DictRow | None:
    """Delete a host with its requests: its secret works no longer."""
    cursor = await conn.execute(f"delete from hosts where id = %s returning {COLUMNS}", [host_id])
    return await cursor.fetchone()


async def connected(conn: Connection, host_id: UUID, offer: HostOffer) -> DictRow | None:
    """Record a new connection of the host, and what its owner allows; return its row with the new epoch."""
    cursor = await conn.execute(
        f"""update hosts
            set kinds = %(kinds)s, folders = %(folders)s, max_agents = %(max_agents)s, machine = %(machine)s,
                platform = %(platform)s, epoch = epoch + 1, running = 0,
                connected_until = now() + make_interval(secs => %(lease)s)
            where id = %(id)s
            returning {COLUMNS}""",
        {
            "id": host_id,
            "kinds": offer.kinds,
            "folders": offer.folders,
            "max_agents": offer.max_agents,
            "machine": offer.machine,
            "platform": offer.platform,
            "lease": LEASE_SECONDS,
        },
    )
    return await cursor.fetchone()


async def polled(conn: Connection, host_id: UUID, epoch: int, running: int, *, leaving: bool) -> bool:
    """Extend the host's connection, or end it; False for a request of an earlier epoch."""
    cursor = await conn.execute(
        """update hosts set running = %s, connected_until = now() + make_interval(secs => %s)
           where id = %s and epoch = %s""",
        [running, 0.0 if leaving else LEASE_SECONDS, host_id, epoch],
    )
    return cursor.rowcount == 1


async def notify(conn: Connection) -> None:
    """Tell every instance, when the transaction commits, that a request was made or has changed."""
    await conn.execute("select pg_notify(%s, '')", [CHANNEL])


async def request_start(conn: Connection, host_id: UUID, *, name: str, kind: str, folder: str) -> DictRow:
    """Add a request, and delete those of the host that were over long ago."""
    await conn.execute(
        """delete from agent_starts
           where host_id = %s and state in ('refused', 'failed', 'expired', 'ended')
             and requested_at < now() - make_interval(days => %s)""",
        [host_id, KEPT_DAYS],
    )
    cursor = await conn.execute(
        f"""insert into agent_starts (host_id, name, kind, folder) values (%s, %s, %s, %s)
            returning {START_COLUMNS}""",
        [host_id, name, kind, folder],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def waiting(conn: Connection, host_id: UUID) -> list[DictRow]:
    """The requests that wait for the host, the oldest first."""
    cursor = await conn.execute(
        f"""select {START_COLUMNS} from agent_starts
            where host_id = %s and state = 'requested' and requested_at > now() - make_interval(secs => %s)
            order by requested_at, id""",
        [host_id, START_SECONDS],
    )
    return await cursor.fetchall()


async def get_start(conn: Connection, start_id: UUID) -> DictRow | None:
    """One request."""
    cursor = await conn.execute(f"select {START_COLUMNS} from agent_starts where id = %s", [start_id])
    return await cursor.fetchone()


async def expire(conn: Connection, start_id: UUID) -> bool:
    """Give up a request that its host has not taken; False when it has."""
    cursor = await conn.execute(
        "update agent_starts set state = 'expired' where id = %s and state = 'requested'", [start_id]
    )
    return cursor.rowcount == 1


async def take(conn: Connection, start_id: UUID, host_id: UUID, epoch: int) -> DictRow | None:
    """A request whose agent its host may enrol now, under its present epoch, locked until the transaction ends. One
    that is enrolled already is taken again, since the answer may have been lost."""
    cursor = await conn.execute(
        f"""select {START_COLUMNS} from agent_starts s
            where id = %(id)s and host_id = %(host_id)s
              and exists (select from hosts where hosts.id = s.host_id and epoch = %(epoch)s)
              and (state = 'enrolled'
                   or (state = 'requested' and requested_at > now() - make_interval(secs => %(seconds)s)))
            for update""",
        {"id": start_id, "host_id": host_id, "epoch": epoch, "seconds": START_SECONDS},
    )
    return await cursor.fetchone()


async def enrolled(conn: Connection, start_id: UUID, agent_id: AgentId) -> None:
    """Record the agent of a request."""
    await conn.execute("update agent_starts set state = 'enrolled', agent_id = %s where id = %s", [agent_id, start_id])


async def conclude(conn: Connection, start_id: UUID, host_id: UUID, outcome: StartOutcome) -> DictRow | None:
    """Record what became of a request; None when nothing changes: the host acts under an earlier epoch, or the request
    is over, or has this state already."""
    cursor = await conn.execute(
        f"""update agent_starts s set state = %(state)s, reason = %(reason)s
            where id = %(id)s and host_id = %(host_id)s
              and exists (select from hosts where hosts.id = s.host_id and epoch = %(epoch)s)
              and case %(state)s
                  when 'ended' then state in ('enrolled', 'started')
                  when 'started' then state = 'enrolled'
                  else state in ('requested', 'enrolled')
              end
            returning {START_COLUMNS}""",
        {
            "id": start_id,
            "host_id": host_id,
            "epoch": outcome.epoch,
            "state": outcome.state,
            "reason": outcome.reason,
        },
    )
    return await cursor.fetchone()
