"""The operator that the first start makes, so that somebody can sign in."""

from __future__ import annotations

import secrets

from onsembl.protocol.states import Role
from onsembl.realtime.auth.passwords import hash_password
from onsembl.realtime.auth.settings import AUTH_ROLE
from onsembl.realtime.builtin_operators import add_operator
from onsembl.sql import auth_users
from onsembl.sql.database import connect

EMAIL = "admin@onsembl.local"


async def make_first_operator(url: str) -> tuple[str, str] | None:
    """E-mail and password of a new admin; None when there are users already."""
    async with await connect(url, role=AUTH_ROLE) as conn:
        if await auth_users.list_users(conn, 1, 0):
            return None
        password = secrets.token_urlsafe(12)
        await add_operator(conn, EMAIL, await hash_password(password), Role.ADMIN)
    return EMAIL, password
