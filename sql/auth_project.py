"""The keys of the built-in Supabase (`auth.project`, `auth.signing_keys`)."""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.sql.database import Connection


async def ensure(conn: Connection, publishable_key: str, secret_key: str, refresh_secret: bytes) -> DictRow:
    """The project's row; it is created with these values if it does not exist."""
    await conn.execute(
        """insert into auth.project (publishable_key, secret_key, refresh_secret) values (%s, %s, %s)
           on conflict do nothing""",
        [publishable_key, secret_key, refresh_secret],
    )
    cursor = await conn.execute("select publishable_key, secret_key, refresh_secret from auth.project")
    row = await cursor.fetchone()
    assert row is not None
    return row


async def publishable_key(conn: Connection) -> str | None:
    """The key for browsers, which identifies a control center; None before its first start."""
    cursor = await conn.execute("select publishable_key from auth.project")
    row = await cursor.fetchone()
    return row["publishable_key"] if row is not None else None


async def live_keys(conn: Connection, published_seconds: float) -> list[DictRow]:
    """The keys that verify tokens, newest first. A key is `ready` to sign once it has been published long enough."""
    cursor = await conn.execute(
        """select kid, private_pem, created_at <= now() - make_interval(secs => %s) as ready
           from auth.signing_keys where retired_at is null order by created_at desc, kid""",
        [published_seconds],
    )
    return await cursor.fetchall()


async def add_first_key(conn: Connection, kid: str, private_pem: str) -> None:
    """Add this key if there is none: when several processes start at once, the key of one of them is kept."""
    await _lock(conn)
    await conn.execute(
        """insert into auth.signing_keys (kid, private_pem)
           select %s, %s where not exists (select from auth.signing_keys where retired_at is null)""",
        [kid, private_pem],
    )


async def rotate(conn: Connection, kid: str, private_pem: str, keep: int, settled_seconds: float) -> bool:
    """Add a key and keep the newest `keep` live keys; return False, and change nothing, while the newest key is younger
    than `settled_seconds`."""
    await _lock(conn)
    cursor = await conn.execute(
        """insert into auth.signing_keys (kid, private_pem, created_at)
           select %s, %s, clock_timestamp()
           where not exists (
               select from auth.signing_keys
               where retired_at is null and created_at > clock_timestamp() - make_interval(secs => %s))""",
        [kid, private_pem, settled_seconds],
    )
    if cursor.rowcount == 0:
        return False
    await conn.execute(
        """update auth.signing_keys set retired_at = now()
           where retired_at is null and kid not in (
               select kid from auth.signing_keys where retired_at is null order by created_at desc, kid limit %s)""",
        [keep],
    )
    return True


async def _lock(conn: Connection) -> None:
    await conn.execute("lock table auth.signing_keys in share row exclusive mode")
