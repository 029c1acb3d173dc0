"""The `enrolment_tokens` table: one-time tokens with which agents enrol.

Only the SHA-256 hash of a token is stored: tokens are random and long, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.sql.database import Connection

_GOOD = """t.used_at is null and t.expires_at > now() and not exists (
    select from operators o where o.id = t.created_by and (o.disabled_at is not null or o.role <> 'admin'))"""
"""The operator who created the token is not disabled, and was an admin at the operator's last request."""
_SHOWN = """t.id, t.name_pattern, t.created_at, t.expires_at,
    coalesce((select o.email from operators o where o.id = t.created_by), '') as created_by_name"""


def digest(token: str) -> bytes:
    """The hash of a token, stored in place of the token."""
    return hashlib.sha256(token.encode()).digest()


async def add_token(
    conn: Connection, token: str, name_pattern: str, expires_in: float, created_by: OperatorId | None
) -> DictRow:
    """Add a one-time enrolment token that expires after `expires_in` seconds; return its id, name pattern and
    expiry."""
    cursor = await conn.execute(
        """insert into enrolment_tokens (token_hash, name_pattern, created_by, expires_at)
           values (%s, %s, %s, now() + make_interval(secs => %s))
           returning id, name_pattern, expires_at""",
        [digest(token), name_pattern, created_by, expires_in],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def find_token(conn: Connection, token: str) -> DictRow | None:
    """A valid, unused enrolment token, locked until the transaction ends."""
    cursor = await conn.execute(
        f"select t.name_pattern from enrolment_tokens t where t.token_hash = %s and {_GOOD} for update",
        [digest(token)],
    )
    return await cursor.fetchone()


async def unused(conn: Connection) -> list[DictRow]:
    """The valid, unused tokens, newest first."""
    cursor = await conn.execute(
        f"select {_SHOWN} from enrolment_tokens t where {_GOOD} order by t.created_at desc, t.id"
    )
    return await cursor.fetchall()


async def withdraw(conn: Connection, token_id: UUID) -> DictRow | None:
    """Withdraw a token, so that no agent can enrol with it; return its row, None when it was used or does not exist."""
    cursor = await conn.execute(
        f"delete from enrolment_tokens t where t.id = %s and t.used_at is null returning {_SHOWN}", [token_id]
    )
    return await cursor.fetchone()


async def use_token(conn: Connection, token: str, agent_id: AgentId | None) -> None:
    """Mark the token as used, by this agent or by a host, which makes it invalid."""
    await conn.execute(
        "update enrolment_tokens set used_at = now(), agent_id = %s where token_hash = %s", [agent_id, digest(token)]
    )
