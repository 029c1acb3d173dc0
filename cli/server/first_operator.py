"""The admin account that the first start creates."""

from __future__ import annotations

import asyncio
import logging
import secrets

import psycopg

from onsembl.protocol.states import Role
from onsembl.realtime.auth.passwords import hash_password
from onsembl.realtime.auth.settings import AUTH_ROLE
from onsembl.realtime.builtin_operators import add_operator
from onsembl.sql import auth_users
from onsembl.sql.database import connect

EMAIL = "admin@onsembl.local"
RETRIES = 30
RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


async def create_first_operator(url: str) -> tuple[str, str] | None:
    """Create the first admin. Return the e-mail address and password; None when users exist already.

    A database that goes away meanwhile is asked again, for half a minute. Raises psycopg.Error.
    """
    password = secrets.token_urlsafe(12)
    hashed = ""

    async def create() -> bool:
        nonlocal hashed
        async with await connect(url, role=AUTH_ROLE) as conn:
            if await auth_users.list_users(conn, 1, 0):
                # An earlier attempt may have been written although its answer was lost.
                admin = await auth_users.by_email(conn, EMAIL)
                return hashed != "" and admin is not None and admin["encrypted_password"] == hashed
            hashed = hashed or await hash_password(password)
            await add_operator(conn, EMAIL, hashed, Role.ADMIN)
        return True

    for _ in range(RETRIES):
        try:
            return (EMAIL, password) if await create() else None
        except psycopg.OperationalError as error:
            logger.warning("The first admin could not be created: %s", error, extra={"action": "first_admin_failed"})
            await asyncio.sleep(RETRY_SECONDS)
    return (EMAIL, password) if await create() else None
