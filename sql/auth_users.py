"""The users of the built-in Supabase Auth (`auth.users`). Only the role `onsembl_auth` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import errors
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.sql.database import Connection

COLUMNS = """id, email, encrypted_password, app_metadata, user_metadata, email_confirmed_at, banned_until, created_at,
    updated_at, last_sign_in_at, coalesce(banned_until > now(), false) as banned"""


class EmailTaken(Exception):
    """Another user has this address."""


async def create(
    conn: Connection,
    email: str,
    password_hash: str,
    app_metadata: Mapping[str, Any],
    user_metadata: Mapping[str, Any],
    *,
    user_id: UUID | None = None,
    confirmed: bool = True,
    ban_seconds: float | None = None,
) -> DictRow | None:
    """Create a user; None when the address or the id is taken."""
    cursor = await conn.execute(
        f"""insert into auth.users
                (id, email, encrypted_password, app_metadata, user_metadata, email_confirmed_at, banned_until)
            values (coalesce(%s, gen_random_uuid()), lower(%s), %s,
                    '{{"provider": "email", "providers": ["email"]}}'::jsonb || %s, %s,
                    case when %s then now() end, now() + make_interval(secs => %s))
            on conflict do nothing
            returning {COLUMNS}""",
        [user_id, email, password_hash, Jsonb(dict(app_metadata)), Jsonb(dict(user_metadata)), confirmed, ban_seconds],
    )
    return await cursor.fetchone()


async def by_email(conn: Connection, email: str) -> DictRow | None:
    """The user with this email address; case makes no difference."""
    cursor = await conn.execute(f"select {COLUMNS} from auth.users where lower(email) = lower(%s)", [email])
    return await cursor.fetchone()


async def get(conn: Connection, user_id: UUID) -> DictRow | None:
    """The user with this id."""
    cursor = await conn.execute(f"select {COLUMNS} from auth.users where id = %s", [user_id])
    return await cursor.fetchone()


async def list_users(conn: Connection, limit: int, offset: int) -> list[DictRow]:
    """Users, newest first, as Supabase lists them."""
    cursor = await conn.execute(
        f"select {COLUMNS} from auth.users order by created_at desc, id limit %s offset %s", [limit, offset]
    )
    return await cursor.fetchall()


async def count(conn: Connection) -> int:
    """The number of users."""
    cursor = await conn.execute("select count(*) as users from auth.users")
    row = await cursor.fetchone()
    assert row is not None
    return row["users"]


async def update(
    conn: Connection,
    user_id: UUID,
    *,
    email: str | None = None,
    password_hash: str | None = None,
    app_metadata: Mapping[str, Any] | None = None,
    user_metadata: Mapping[str, Any] | None = None,
    confirm: bool = False,
) -> DictRow | None:
    """Change the given fields. Metadata is merged at its first level; a null removes its key. Raises EmailTaken."""
    app, user = dict(app_metadata or {}), dict(user_metadata or {})
    try:
        cursor = await conn.execute(
            f"""update auth.users
                set email = coalesce(lower(%(email)s), email),
                    encrypted_password = coalesce(%(password)s, encrypted_password),
                    app_metadata = (app_metadata || %(app)s) - %(app_gone)s::text[],
                    user_metadata = (user_metadata || %(user)s) - %(user_gone)s::text[],
                    email_confirmed_at = case when %(confirm)s then coalesce(email_confirmed_at, now())
                                              else email_confirmed_at end,
                    updated_at = now()
                where id = %(id)s
                returning {COLUMNS}""",
            {
                "id": user_id,
                "email": email,
                "password": password_hash,
                "app": Jsonb(app),
                "app_gone": _nulls(app),
                "user": Jsonb(user),
                "user_gone": _nulls(user),
                "confirm": confirm,
            },
        )
    except errors.UniqueViolation as error:
        raise EmailTaken from error
    return await cursor.fetchone()


async def ban(conn: Connection, user_id: UUID, seconds: float | None) -> DictRow | None:
    """Ban the user for `seconds`; None lifts the ban."""
    cursor = await conn.execute(
        f"""update auth.users set banned_until = now() + make_interval(secs => %s), updated_at = now()
            where id = %s returning {COLUMNS}""",
        [seconds, user_id],
    )
    return await cursor.fetchone()


async def delete(conn: Connection, user_id: UUID) -> DictRow | None:
    """Delete a user and the user's sessions; return the deleted row."""
    cursor = await conn.execute(f"delete from auth.users where id = %s returning {COLUMNS}", [user_id])
    return await cursor.fetchone()


async def signed_in(conn: Connection, user_id: UUID, password_hash: str) -> DictRow | None:
    """Record a sign-in with the password of this hash; None when the password, or the user, has changed meanwhile."""
    cursor = await conn.execute(
        f"""update auth.users set last_sign_in_at = now()
            where id = %s and encrypted_password = %s and (banned_until is null or banned_until <= now())
            returning {COLUMNS}""",
        [user_id, password_hash],
    )
    return await cursor.fetchone()


async def signed_in_by_link(conn: Connection, user_id: UUID) -> DictRow | None:
    """Record a sign-in with a link that was sent to the user's address, which confirms the address; None when the user
    is banned."""
    cursor = await conn.execute(
        f"""update auth.users set last_sign_in_at = now(), email_confirmed_at = coalesce(email_confirmed_at, now())
            where id = %s and (banned_until is null or banned_until <= now())
            returning {COLUMNS}""",
        [user_id],
    )
    return await cursor.fetchone()


def _nulls(metadata: Mapping[str, Any]) -> list[str]:
    return [key for key, value in metadata.items() if value is None]
