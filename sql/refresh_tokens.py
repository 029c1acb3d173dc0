"""The `refresh_tokens` table: what an agent exchanges for its next access token, once.

A token is exchanged for a *successor*. While no successor was used, the token may come again for a short while: the
answer was lost, or is late. Each time there is another successor; the first of them that is used supersedes the others,
for they never arrived.
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
    """A token's row, and what may be wrong with it. `repeatable`: used, but only just, and no successor was."""

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
    """A refresh token of `family`, good for `expires_in` seconds, given for `parent`. The caller holds the agent."""
    await conn.execute(
        """insert into refresh_tokens (token_hash, family, agent_id, parent_hash, expires_at)
           values (%s, %s, %s, %s, now() + make_interval(secs => %s))""",
        [digest(token), family, agent_id, digest(parent) if parent is not None else None, expires_in],
    )


async def take(conn: Connection, token: str, repeat_seconds: float) -> RefreshToken | None:
    """The token; its agent is locked until the end of the transaction, so no other of its tokens is taken or given."""
    cursor = await conn.execute("select agent_id from refresh_tokens where token_hash = %s", [digest(token)])
    row = await cursor.fetchone()
    if row is None or await agents.lock(conn, row["agent_id"]) is None:
        return None
    cursor = await conn.execute(
        """select family, agent_id, agents.name as agent_name, used_at is not null as used,
                  coalesce(used_at > now() - make_interval(secs => %(repeat)s), false) and not exists (
                      select from refresh_tokens as successor
                      where successor.parent_hash = refresh_tokens.token_hash and successor.used_at is not null
                  ) as repeatable,
                  revoked_at is not null as revoked, superseded_at is not null as superseded,
                  refresh_tokens.expires_at <= now() as expired, agents.disabled_at is not null as disabled
           from refresh_tokens join agents on agents.id = agent_id
           where token_hash = %(hash)s""",
        {"hash": digest(token), "repeat": repeat_seconds},
    )
    row = await cursor.fetchone()
    return RefreshToken(**row) if row is not None else None


async def use(conn: Connection, token: str) -> None:
    """The token is exchanged; others that were given for its parent never arrived."""
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
    """No token of the family is good any more."""
    await conn.execute(
        "update refresh_tokens set revoked_at = now() where family = %s and revoked_at is null", [family]
    )


async def revoke_agent(conn: Connection, agent_id: AgentId) -> None:
    """No token of the agent is good any more. The caller holds the agent."""
    await conn.execute(
        "update refresh_tokens set revoked_at = now() where agent_id = %s and revoked_at is null", [agent_id]
    )


async def remove_expired(conn: Connection) -> None:
    """Forget tokens that ended a week ago: nothing can be learnt from them any more."""
    await conn.execute("delete from refresh_tokens where expires_at < now() - interval '7 days'")
