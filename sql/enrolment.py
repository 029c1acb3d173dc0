"""The `enrolment_tokens` and `refresh_tokens` tables: how an agent comes to hold a credential, and keeps it.

Tokens are kept as SHA-256 only: they are random and long, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, OperatorId

Connection = AsyncConnection[DictRow]


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


async def add_token(
    conn: Connection, token: str, name_pattern: str, expires_in: float, created_by: OperatorId | None
) -> DictRow:
    """A one-time enrolment token that ends after `expires_in` seconds; its pattern and end."""
    cursor = await conn.execute(
        """insert into enrolment_tokens (token_hash, name_pattern, created_by, expires_at)
           values (%s, %s, %s, now() + make_interval(secs => %s))
           returning name_pattern, expires_at""",
        [digest(token), name_pattern, created_by, expires_in],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def find_token(conn: Connection, token: str) -> DictRow | None:
    """A good, unused enrolment token, locked until the end of the transaction."""
    cursor = await conn.execute(
        """select name_pattern from enrolment_tokens
           where token_hash = %s and used_at is null and expires_at > now()
           for update""",
        [digest(token)],
    )
    return await cursor.fetchone()


async def use_token(conn: Connection, token: str, agent_id: AgentId) -> None:
    """The token has enrolled this agent and is of no further use."""
    await conn.execute(
        "update enrolment_tokens set used_at = now(), agent_id = %s where token_hash = %s", [agent_id, digest(token)]
    )


async def add_refresh_token(conn: Connection, token: str, family: UUID, agent_id: AgentId, expires_in: float) -> None:
    """A refresh token of `family`, good for `expires_in` seconds."""
    await conn.execute(
        """insert into refresh_tokens (token_hash, family, agent_id, expires_at)
           values (%s, %s, %s, now() + make_interval(secs => %s))""",
        [digest(token), family, agent_id, expires_in],
    )


async def take_refresh_token(conn: Connection, token: str) -> dict[str, Any] | None:
    """A refresh token's row with what may be wrong with it, locked until the end of the transaction."""
    cursor = await conn.execute(
        """select family, agent_id, used_at is not null as used, revoked_at is not null as revoked,
                  refresh_tokens.expires_at <= now() as expired, agents.name, agents.disabled_at is not null as disabled
           from refresh_tokens join agents on agents.id = agent_id
           where token_hash = %s
           for update of refresh_tokens""",
        [digest(token)],
    )
    return await cursor.fetchone()


async def use_refresh_token(conn: Connection, token: str) -> None:
    """The token has been exchanged: seen again, it is stolen."""
    await conn.execute("update refresh_tokens set used_at = now() where token_hash = %s", [digest(token)])


async def revoke_family(conn: Connection, family: UUID) -> None:
    """No token of the family is good any more."""
    await conn.execute(
        "update refresh_tokens set revoked_at = now() where family = %s and revoked_at is null", [family]
    )
