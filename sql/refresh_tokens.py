"""The `refresh_tokens` table: tokens that an agent exchanges, once each, for its next access token.

A token is exchanged for a *successor*. While no successor was used, the agent may repeat the exchange for a short time,
because the answer may be lost or late. Each exchange issues another successor; the first successor that is used
invalidates the others, which never arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from onsembl.protocol.ids import AgentId
from onsembl.sql import agents
from onsembl.sql.database import Connection
from onsembl.sql.enrolment import digest


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A token's row, with the reasons to reject it. `repeatable`: the token was used, and none of its successors."""

    family: UUID
    agent_id: AgentId
    agent_name: str
    used: bool
    repeatable: bool
    revoked: bool
    superseded: bool
    expired: bool
    disabled: bool


async def add(
    conn: Connection, token: str, family: UUID, agent_id: AgentId, expires_in: float, parent: str | None
) -> None:
    """Add a refresh token of `family`, valid for `expires_in` seconds, issued for `parent`. The caller has locked the
    agent."""
    await conn.execute(
        """insert into refresh_tokens (token_hash, family, agent_id, parent_hash, expires_at)
           values (%s, %s, %s, %s, now() + make_interval(secs => %s))""",
        [digest(token), family, agent_id, digest(parent) if parent is not None else None, expires_in],
    )


async def take(conn: Connection, token: str) -> RefreshToken | None:
    """The token; its agent is locked until the transaction ends, so none of the agent's tokens is exchanged or
    issued."""
    cursor = await conn.execute("select agent_id from refresh_tokens where token_hash = %s", [digest(token)])
    row = await cursor.fetchone()
    if row is None or await agents.lock(conn, row["agent_id"]) is None:
        return None
    cursor = await conn.execute(
        """select family, agent_id, agents.name as agent_name, used_at is not null as used,
                  used_at is not null and not exists (
                      select from refresh_tokens as successor
                      where successor.parent_hash = refresh_tokens.token_hash and successor.used_at is not null
                  ) as repeatable,
                  revoked_at is not null as revoked, superseded_at is not null as superseded,
                  refresh_tokens.expires_at <= now() as expired, agents.disabled_at is not null as disabled
           from refresh_tokens join agents on agents.id = agent_id
           where token_hash = %s""",
        [digest(token)],
    )
    row = await cursor.fetchone()
    return RefreshToken(**row) if row is not None else None


async def use(conn: Connection, token: str) -> None:
    """Mark the token as used; the other successors of its parent never arrived and become invalid."""
    await conn.execute(
        "update refresh_tokens set used_at = coalesce(used_at, now()) where token_hash = %s", [digest(token)]
    )
    await conn.execute(
        """update refresh_tokens set superseded_at = now()
           where parent_hash = (select parent_hash from refresh_tokens where token_hash = %(hash)s)
             and token_hash <> %(hash)s and superseded_at is null""",
        {"hash": digest(token)},
    )


async def revoke_family(conn: Connection, family: UUID) -> None:
    """Revoke every token of the family."""
    await conn.execute(
        "update refresh_tokens set revoked_at = now() where family = %s and revoked_at is null", [family]
    )


async def revoke_agent(conn: Connection, agent_id: AgentId) -> None:
    """Revoke every token of the agent. The caller has locked the agent."""
    await conn.execute(
        "update refresh_tokens set revoked_at = now() where agent_id = %s and revoked_at is null", [agent_id]
    )


async def remove_expired(conn: Connection) -> None:
    """Remove tokens that expired a week ago; their reuse no longer reveals anything."""
    await conn.execute("delete from refresh_tokens where expires_at < now() - interval '7 days'")
