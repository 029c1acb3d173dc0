"""The `device_requests` table: agents that ask for approval, and the admins' decisions."""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.sql import locks
from onsembl.sql.database import Connection
from onsembl.sql.enrolment import digest

COLUMNS = """id, user_code, name, kind, mode, host, platform, address, created_at, expires_at, state, decided_at,
    decided_by, agent_id"""


async def add(
    conn: Connection,
    *,
    device_code: str,
    user_code: str,
    name: str,
    kind: str,
    mode: str,
    host: str,
    platform: str,
    address: str,
    network: str,
    expires_in: float,
    poll_seconds: float,
    most_open: int,
    most_open_at_network: int,
) -> bool:
    """Add a request; False when too many requests are open, in total or of its network, or when the user code is in
    use."""
    await locks.take(conn, "device requests")
    await conn.execute("delete from device_requests where expires_at < now() - interval '1 day'")
    cursor = await conn.execute(
        """insert into device_requests
               (device_hash, user_code, name, kind, mode, host, platform, address, network, expires_at, poll_seconds)
           select %(hash)s, %(user_code)s, %(name)s, %(kind)s, %(mode)s, %(host)s, %(platform)s, %(address)s,
                  %(network)s, now() + make_interval(secs => %(expires_in)s), %(poll_seconds)s
           from (select count(*) as open, count(*) filter (where network = %(network)s) as open_there
                 from device_requests where state = 'waiting' and expires_at > now()) as waiting
           where open < %(most_open)s and open_there < %(most_open_at_network)s
           on conflict (user_code) do nothing""",
        {
            "hash": digest(device_code),
            "user_code": user_code,
            "name": name,
            "kind": kind,
            "mode": mode,
            "host": host,
            "platform": platform,
            "address": address,
            "expires_in": expires_in,
            "poll_seconds": poll_seconds,
            "network": network,
            "most_open": most_open,
            "most_open_at_network": most_open_at_network,
        },
    )
    return cursor.rowcount == 1


async def poll(conn: Connection, device_code: str) -> DictRow | None:
    """The request of a device code, locked until the transaction ends. `hurried` is true if the agent polled again too
    soon; `taken_ago` is in seconds."""
    cursor = await conn.execute(
        f"""select {COLUMNS}, expires_at <= now() as expired, poll_seconds,
                   coalesce(polled_at > now() - make_interval(secs => poll_seconds), false) as hurried,
                   extract(epoch from now() - taken_at)::float8 as taken_ago
            from device_requests where device_hash = %s for update""",
        [digest(device_code)],
    )
    return await cursor.fetchone()


async def polled(conn: Connection, request_id: UUID, poll_seconds: float) -> None:
    """Record a poll; the agent must wait `poll_seconds` before the next poll."""
    await conn.execute(
        "update device_requests set polled_at = now(), poll_seconds = %s where id = %s", [poll_seconds, request_id]
    )


async def taken(conn: Connection, request_id: UUID) -> None:
    """Record that the agent has received its credentials."""
    await conn.execute("update device_requests set taken_at = coalesce(taken_at, now()) where id = %s", [request_id])


async def waiting(conn: Connection) -> list[DictRow]:
    """The open requests, newest first."""
    cursor = await conn.execute(
        f"""select {COLUMNS} from device_requests where state = 'waiting' and expires_at > now()
            order by created_at desc, id"""
    )
    return await cursor.fetchall()


async def by_user_code(conn: Connection, user_code: str) -> DictRow | None:
    """The open request with this user code."""
    cursor = await conn.execute(
        f"select {COLUMNS} from device_requests where user_code = %s and state = 'waiting' and expires_at > now()",
        [user_code],
    )
    return await cursor.fetchone()


async def lock(conn: Connection, request_id: UUID) -> DictRow | None:
    """Lock a request until the transaction ends; `open` is true if an admin may still decide on it."""
    cursor = await conn.execute(
        f"""select {COLUMNS}, state = 'waiting' and expires_at > now() as open
            from device_requests where id = %s for update""",
        [request_id],
    )
    return await cursor.fetchone()


async def decide(
    conn: Connection, request_id: UUID, state: str, operator_id: OperatorId, agent_id: AgentId | None, name: str
) -> DictRow:
    """Record the decision: `approved`, with the agent's id and name, or `refused`."""
    cursor = await conn.execute(
        f"""update device_requests
            set state = %s, decided_at = now(), decided_by = %s, agent_id = %s, name = %s where id = %s
            returning {COLUMNS}""",
        [state, operator_id, agent_id, name, request_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row
