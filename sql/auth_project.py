"""The stand-in's keys (`auth.project`, `auth.signing_keys`)."""

from __future__ import annotations

from psycopg import AsyncConnection
from psycopg.rows import DictRow

Connection = AsyncConnection[DictRow]


async def ensure(conn: Connection, publishable_key: str, secret_key: str, refresh_secret: bytes) -> DictRow:
    """The project's row; made of these values if there is none."""
    await conn.execute(
        """insert into auth.project (publishable_key, secret_key, refresh_secret) values (%s, %s, %s)
           on conflict do nothing""",
        [publishable_key, secret_key, refresh_secret],
    )
    cursor = await conn.execute("select publishable_key, secret_key, refresh_secret from auth.project")
    row = await cursor.fetchone()
    assert row is not None
    return row


async def live_keys(conn: Connection) -> list[DictRow]:
    """Keys that verify, newest first; the first one signs."""
    cursor = await conn.execute(
        "select kid, private_pem from auth.signing_keys where retired_at is null order by created_at desc, kid"
    )
    return await cursor.fetchall()


async def add_key(conn: Connection, kid: str, private_pem: str, *, only_if_none: bool = False) -> None:
    """A new key to sign with; with `only_if_none` unless there is one already."""
    await conn.execute("lock table auth.signing_keys in share row exclusive mode")
    await conn.execute(
        """insert into auth.signing_keys (kid, private_pem)
           select %s, %s
           where not %s or not exists (select from auth.signing_keys where retired_at is null)""",
        [kid, private_pem, only_if_none],
    )


async def retire_all_but_newest(conn: Connection, keep: int) -> None:
    """Of the live keys, only the newest `keep` stay."""
    await conn.execute(
        """update auth.signing_keys set retired_at = now()
           where retired_at is null and kid not in (
               select kid from auth.signing_keys where retired_at is null order by created_at desc, kid limit %s)""",
        [keep],
    )
