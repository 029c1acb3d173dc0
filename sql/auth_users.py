"""The stand-in's tables of users and sessions (`auth.users`, `auth.sessions`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

Connection = AsyncConnection[DictRow]

COLUMNS = """id, email, encrypted_password, app_metadata, user_metadata, banned_until, created_at, updated_at,
    last_sign_in_at"""


async def create(
    conn: Connection, email: str, password_hash: str, app_metadata: Mapping[str, Any], user_metadata: Mapping[str, Any]
) -> DictRow | None:
    """A new user; None when the address is taken."""
    cursor = await conn.execute(
        f"""insert into auth.users (email, encrypted_password, app_metadata, user_metadata)
            values (%s, %s, '{{"provider": "email", "providers": ["email"]}}'::jsonb || %s, %s)
            on conflict (lower(email)) do nothing
            returning {COLUMNS}""",
        [email, password_hash, Jsonb(dict(app_metadata)), Jsonb(dict(user_metadata))],
    )
    return await cursor.fetchone()


async def by_email(conn: Connection, email: str) -> DictRow | None:
    """A user by their address, in any case."""
    cursor = await conn.execute(f"select {COLUMNS} from auth.users where lower(email) = lower(%s)", [email])
    return await cursor.fetchone()


async def get(conn: Connection, user_id: UUID) -> DictRow | None:
    """A user."""
    cursor = await conn.execute(f"select {COLUMNS} from auth.users where id = %s", [user_id])
    return await cursor.fetchone()


async def list_users(conn: Connection, limit: int, offset: int) -> list[DictRow]:
    """Users, oldest first."""
    cursor = await conn.execute(
        f"select {COLUMNS} from auth.users order by created_at, id limit %s offset %s", [limit, offset]
    )
    return await cursor.fetchall()


async def update(
    conn: Connection,
    user_id: UUID,
    *,
    email: str | None = None,
    password_hash: str | None = None,
    app_metadata: Mapping[str, Any] | None = None,
    user_metadata: Mapping[str, Any] | None = None,
) -> DictRow | None:
    """Change what is given; metadata is merged into what is there."""
    cursor = await conn.execute(
        f"""update auth.users
            set email = coalesce(%(email)s, email),
                encrypted_password = coalesce(%(password)s, encrypted_password),
                app_metadata = app_metadata || coalesce(%(app)s, '{{}}'::jsonb),
                user_metadata = user_metadata || coalesce(%(user)s, '{{}}'::jsonb),
                updated_at = now()
            where id = %(id)s
            returning {COLUMNS}""",
        {
            "id": user_id,
            "email": email,
            "password": password_hash,
            "app": Jsonb(dict(app_metadata)) if app_metadata is not None else None,
            "user": Jsonb(dict(user_metadata)) if user_metadata is not None else None,
        },
    )
    return await cursor.fetchone()


async def ban(conn: Connection, user_id: UUID, seconds: float | None) -> DictRow | None:
    """Refuse the user for `seconds`; None lifts it."""
    cursor = await conn.execute(
        f"""update auth.users set banned_until = now() + make_interval(secs => %s), updated_at = now()
            where id = %s returning {COLUMNS}""",
        [seconds, user_id],
    )
    return await cursor.fetchone()


async def delete(conn: Connection, user_id: UUID) -> bool:
    """Remove a user and their sessions; whether there was one."""
    cursor = await conn.execute("delete from auth.users where id = %s", [user_id])
    return cursor.rowcount == 1


async def begin_session(conn: Connection, user_id: UUID) -> DictRow:
    """The user has signed in."""
    await conn.execute("update auth.users set last_sign_in_at = now() where id = %s", [user_id])
    cursor = await conn.execute(
        "insert into auth.sessions (user_id) values (%s) returning id, user_id, created_at, counter", [user_id]
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def lock_session(conn: Connection, session_id: UUID) -> DictRow | None:
    """A session, until the end of the transaction; `idle` is the time in seconds since its last refresh."""
    cursor = await conn.execute(
        """select id, user_id, created_at, counter, extract(epoch from now() - refreshed_at)::float8 as idle
           from auth.sessions where id = %s for update""",
        [session_id],
    )
    return await cursor.fetchone()


async def advance_session(conn: Connection, session_id: UUID) -> None:
    """The next refresh token is the good one."""
    await conn.execute(
        "update auth.sessions set counter = counter + 1, refreshed_at = now() where id = %s", [session_id]
    )


async def session_exists(conn: Connection, session_id: UUID) -> bool:
    """Whether the session has not been ended."""
    cursor = await conn.execute("select 1 from auth.sessions where id = %s", [session_id])
    return await cursor.fetchone() is not None


async def end_sessions(conn: Connection, user_id: UUID, session_id: UUID | None, scope: str) -> None:
    """Sign out: this session (`local`), all but this one (`others`), or all (`global`)."""
    await conn.execute(
        """delete from auth.sessions
           where user_id = %(user)s
             and case %(scope)s
                     when 'local' then id = %(session)s
                     when 'others' then id <> %(session)s
                     else true
                 end""",
        {"user": user_id, "session": session_id, "scope": scope},
    )
