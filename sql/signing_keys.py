"""The `signing_keys` table: the keys that sign agents' access tokens.

The newest key signs. The older keys verify until the last token that they signed has expired.
"""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

LIVE = "(retired_at is null or retired_at > now())"
LEEWAY_SECONDS = 60.0
"""The seconds that a retired key verifies beyond the lifetime of its last token: an instance may sign with the key
until it learns of the new key."""


async def live(conn: Connection) -> list[DictRow]:
    """The keys that verify tokens, newest first; the first key signs."""
    cursor = await conn.execute(
        f"""select kid, private_pem, created_at, retired_at, token_seconds
            from signing_keys where {LIVE} order by created_at desc, kid"""
    )
    return await cursor.fetchall()


async def add_first(conn: Connection, kid: str, private_pem: str) -> None:
    """Add this key if there is none: when several instances start at once, the key of one of them is kept."""
    await _lock(conn)
    await conn.execute(
        """insert into signing_keys (kid, private_pem)
           select %s, %s where not exists (select from signing_keys where retired_at is null)""",
        [kid, private_pem],
    )


async def note_lifetime(conn: Connection, token_seconds: float) -> None:
    """Record the lifetime of the tokens that an instance signs."""
    await conn.execute(
        "update signing_keys set token_seconds = %(seconds)s where retired_at is null and token_seconds < %(seconds)s",
        {"seconds": token_seconds},
    )


async def rotate(conn: Connection, kid: str, private_pem: str, *, revoke: bool) -> None:
    """Add a key that signs from now on. With `revoke`, the other keys no longer verify any token."""
    await _lock(conn)
    lasting = "interval '0'" if revoke else "make_interval(secs => token_seconds + %(leeway)s)"
    also_retiring = "or retired_at > now()" if revoke else ""
    await conn.execute(
        f"update signing_keys set retired_at = now() + {lasting} where retired_at is null {also_retiring}",
        {"leeway": LEEWAY_SECONDS},
    )
    await conn.execute(
        """insert into signing_keys (kid, private_pem, token_seconds, created_at)
           select %s, %s, coalesce(max(token_seconds), 900), clock_timestamp() from signing_keys""",
        [kid, private_pem],
    )


async def _lock(conn: Connection) -> None:
    await conn.execute("lock table signing_keys in share row exclusive mode")
