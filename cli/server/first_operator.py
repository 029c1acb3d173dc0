"""The admin account that the first start creates."""

from __future__ import annotations

import secrets

from onsembl.protocol.states import Role
from onsembl.realtime.auth.passwords import hash_password
from onsembl.realtime.auth.settings import AUTH_ROLE
from onsembl.realtime.builtin_operators import add_operator
from onsembl.sql import auth_users
from onsembl.sql.database import connect

EMAIL = "admin@onsembl.local"


async def create_first_operator(url: str) -> tuple[str, str] | None:
    """Create the first admin. Return the e-mail address and password; None when users exist already."""
    async with await connect(url, role=AUTH_ROLE) as conn:
        if await auth_users.list_users(conn, 1, 0):
            return None
        password = secrets.token_urlsafe(12)
        await add_operator(conn, EMAIL, await hash_password(password), Role.ADMIN)
    return EMAIL, password
