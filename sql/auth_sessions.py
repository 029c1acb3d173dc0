"""The sessions of the built-in Supabase Auth (`auth.sessions`): one for each sign-in, ended by signing out."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.sql.database import Connection

Scope = Literal["local", "others", "global"]
Method = Literal["password", "otp"]
"""How a session begins, in the words of the claim `amr`; `otp` is a link by e-mail."""


async def begin(conn: Connection, user_id: UUID, idle_seconds: float, method: Method) -> DictRow:
    """Create a session. The user's sessions that were not refreshed for `idle_seconds` are deleted."""
    await conn.execute(
        """delete from auth.sessions
           where user_id = %s and (not_after <= now() or refreshed_at <= now() - make_interval(secs => %s))""",
        [user_id, idle_seconds],
    )
    cursor = await conn.execute(
        """insert into auth.sessions (user_id, method) values (%s, %s)
           returning id, user_id, created_at, counter, method""",
        [user_id, method],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def lock(conn: Connection, session_id: UUID) -> DictRow | None:
    """Lock a session until the transaction ends. `idle` is the time in seconds since its token last changed; `over` is
    true once the session has expired."""
    cursor = await conn.execute(
        """select id, user_id, created_at, counter, method, extract(epoch from now() - refreshed_at)::float8 as idle,
                  coalesce(not_after <= now(), false) as over
           from auth.sessions where id = %s for update""",
        [session_id],
    )
    return await cursor.fetchone()


async def advance(conn: Connection, session_id: UUID) -> None:
    """Make the session's next refresh token the valid one."""
    await conn.execute(
        "update auth.sessions set counter = counter + 1, refreshed_at = now() where id = %s", [session_id]
    )


async def exists(conn: Connection, session_id: UUID, user_id: UUID) -> bool:
    """Whether this session of the user exists."""
    cursor = await conn.execute("select 1 from auth.sessions where id = %s and user_id = %s", [session_id, user_id])
    return await cursor.fetchone() is not None


async def user_of(conn: Connection, session_id: UUID, user_id: UUID) -> DictRow | None:
    """The user as it is now (`app_metadata`, `banned`), with whether this session is still `open`; None when the user
    was deleted."""
    cursor = await conn.execute(
        """select app_metadata, coalesce(banned_until > now(), false) as banned,
                  exists (select from auth.sessions s where s.id = %s and s.user_id = u.id) as open
           from auth.users u where id = %s""",
        [session_id, user_id],
    )
    return await cursor.fetchone()


async def end(conn: Connection, user_id: UUID, session_id: UUID | None, scope: Scope) -> None:
    """End sessions of the user: this session (`local`), all other sessions (`others`), or all sessions (`global`)."""
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
