"""The one-time tokens of the built-in Supabase Auth (`auth.one_time_tokens`), by the hashes of their texts.

A token of the kind `magiclink` or `recovery` is in a link that was sent by e-mail. A `code` is what a browser gets for
such a link, and exchanges for a session together with the verifier of the token's challenge (PKCE).
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

LinkKind = Literal["magiclink", "recovery"]
Kind = Literal["magiclink", "recovery", "code"]
ChallengeMethod = Literal["s256", "plain"]


async def add_link(
    conn: Connection,
    user_id: UUID,
    kind: LinkKind,
    token_hash: bytes,
    challenge: tuple[str, ChallengeMethod] | None,
    seconds: float,
) -> None:
    """Add the token of a link, valid for `seconds`, in the place of the user's earlier token of this kind."""
    await conn.execute(
        "delete from auth.one_time_tokens where expires_at <= now() or (user_id = %s and kind = %s)", [user_id, kind]
    )
    await _add(conn, user_id, kind, token_hash, challenge, seconds)


async def add_code(
    conn: Connection, user_id: UUID, token_hash: bytes, challenge: tuple[str, ChallengeMethod], seconds: float
) -> None:
    """Add a code, valid for `seconds`; earlier ones stay valid, because a program may have followed the link first."""
    await _add(conn, user_id, "code", token_hash, challenge, seconds)


async def _add(
    conn: Connection,
    user_id: UUID,
    kind: Kind,
    token_hash: bytes,
    challenge: tuple[str, ChallengeMethod] | None,
    seconds: float,
) -> None:
    await conn.execute(
        """insert into auth.one_time_tokens
               (user_id, kind, token_hash, code_challenge, code_challenge_method, expires_at)
           values (%s, %s, %s, %s, %s, now() + make_interval(secs => %s))""",
        [user_id, kind, token_hash, *(challenge or (None, None)), seconds],
    )


async def lock(conn: Connection, token_hash: bytes, kind: Kind) -> DictRow | None:
    """The valid token (`user_id`, `code_challenge`, `code_challenge_method`), locked until the transaction ends."""
    cursor = await conn.execute(
        """select user_id, code_challenge, code_challenge_method from auth.one_time_tokens
           where token_hash = %s and kind = %s and expires_at > now() for update""",
        [token_hash, kind],
    )
    return await cursor.fetchone()


async def revoke(conn: Connection, user_id: UUID) -> None:
    """Delete all tokens of the user."""
    await conn.execute("delete from auth.one_time_tokens where user_id = %s", [user_id])
