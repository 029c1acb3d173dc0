"""The `enrolment_tokens` table: how an agent comes to hold a credential.

Tokens are kept as SHA-256 only: they are random and long, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.sql.database import Connection


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
