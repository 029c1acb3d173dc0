"""The tables `recovery_secrets`, `recoveries` and `recovered_agents`: how agents come back after a restored backup.

Of a recovery secret only the SHA-256 hash is stored, as of the other random tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId
from onsembl.sql import agents
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection
from onsembl.sql.enrolment import digest

COLUMNS = """id, opened_at, opened_by_name, ends_at, closed_at, closed_by_name,
    closed_at is null and ends_at > now() as open"""


@dataclass(frozen=True, slots=True)
class SecretHolder:
    """The agent that a recovery secret belongs to."""

    agent_id: AgentId
    name: str
    disabled: bool


async def set_secret(conn: Connection, agent_id: AgentId, secret: str) -> None:
    """Set the agent's recovery secret, in place of an earlier one. The caller has locked the agent."""
    await conn.execute(
        """insert into recovery_secrets (agent_id, secret_hash) values (%s, %s)
           on conflict (agent_id) do update set secret_hash = excluded.secret_hash, created_at = now()""",
        [agent_id, digest(secret)],
    )


async def has_secret(conn: Connection, agent_id: AgentId, secret_hash: bytes) -> bool:
    """Whether the agent's recovery secret has this hash."""
    cursor = await conn.execute(
        "select from recovery_secrets where agent_id = %s and secret_hash = %s", [agent_id, secret_hash]
    )
    return await cursor.fetchone() is not None


async def remove_secret(conn: Connection, agent_id: AgentId) -> None:
    """Remove the agent's recovery secret."""
    await conn.execute("delete from recovery_secrets where agent_id = %s", [agent_id])


async def take(conn: Connection, secret: str) -> SecretHolder | None:
    """The agent of a recovery secret, locked until the transaction ends; None when the secret is unknown."""
    cursor = await conn.execute("select agent_id from recovery_secrets where secret_hash = %s", [digest(secret)])
    row = await cursor.fetchone()
    agent = await agents.lock(conn, AgentId(row["agent_id"])) if row is not None else None
    if agent is None or not await has_secret(conn, AgentId(agent["id"]), digest(secret)):
        return None  # removed before the lock
    return SecretHolder(AgentId(agent["id"]), agent["name"], agent["disabled_at"] is not None)


async def without_secret(conn: Connection) -> list[str]:
    """The names of the enabled agents that have no recovery secret."""
    cursor = await conn.execute(
        """select name from agents
           where disabled_at is null and not exists (select from recovery_secrets where agent_id = agents.id)
           order by name"""
    )
    return [row["name"] for row in await cursor.fetchall()]


async def open_recovery(conn: Connection, seconds: float, actor: Actor) -> DictRow | None:
    """Open a recovery that ends after `seconds`; None when one is open."""
    await conn.execute("update recoveries set closed_at = ends_at where closed_at is null and ends_at <= now()")
    cursor = await conn.execute(
        f"""insert into recoveries (opened_by, opened_by_name, ends_at)
            values (%s, %s, now() + make_interval(secs => %s))
            on conflict ((true)) where closed_at is null do nothing returning {COLUMNS}""",
        [actor.id, actor.name, seconds],
    )
    return await cursor.fetchone()


async def latest(conn: Connection) -> DictRow | None:
    """The recovery that was opened last, open or over."""
    cursor = await conn.execute(f"select {COLUMNS} from recoveries order by opened_at desc limit 1")
    return await cursor.fetchone()


async def close(conn: Connection, actor: Actor) -> DictRow | None:
    """Close the open recovery; None when none is open."""
    cursor = await conn.execute(
        f"""update recoveries set closed_at = now(), closed_by_name = %s
            where closed_at is null and ends_at > now() returning {COLUMNS}""",
        [actor.name],
    )
    return await cursor.fetchone()


async def recovered(conn: Connection, recovery_id: UUID) -> list[DictRow]:
    """The agents that came back in a recovery, with the time of each."""
    cursor = await conn.execute(
        """select agent_id, name, at from recovered_agents join agents on agents.id = agent_id
           where recovery_id = %s order by at, name""",
        [recovery_id],
    )
    return await cursor.fetchall()


async def came_back(conn: Connection, recovery_id: UUID, agent_id: AgentId) -> bool:
    """Whether the agent has used the tokens that it got in this recovery."""
    cursor = await conn.execute(
        """select from recovered_agents as back join agents on agents.id = agent_id
           where recovery_id = %s and agent_id = %s
             and (connected_at > back.at or exists (
                 select from refresh_tokens where refresh_tokens.family = back.family and used_at is not null))""",
        [recovery_id, agent_id],
    )
    return await cursor.fetchone() is not None


async def record(conn: Connection, recovery_id: UUID, agent_id: AgentId, family: UUID) -> None:
    """Record that the agent got refresh tokens of this family; they replace tokens that never arrived."""
    await conn.execute(
        """insert into recovered_agents (recovery_id, agent_id, family) values (%s, %s, %s)
           on conflict (recovery_id, agent_id) do update set family = excluded.family, at = now()""",
        [recovery_id, agent_id, family],
    )
