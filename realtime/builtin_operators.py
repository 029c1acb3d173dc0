"""Operators whose accounts are in our own Postgres, with the built-in Supabase."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from psycopg.rows import DictRow

from onsembl.protocol.states import Role
from onsembl.realtime.auth.accounts import check_password, valid_email
from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.passwords import hash_password
from onsembl.realtime.auth.settings import AUTH_ROLE
from onsembl.realtime.operators import NoSuchOperator, OperatorAccount, OperatorExists, OperatorRejected, role_in
from onsembl.sql import auth_sessions, auth_users
from onsembl.sql.database import Connection, Pool, create_pool

BAN_SECONDS = timedelta(days=365 * 100).total_seconds()


class BuiltinOperators:
    """An OperatorDirectory over a pool whose connections act as `AUTH_ROLE`. It needs no running server."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, email: str, password: str, role: Role) -> OperatorAccount:
        try:
            email = valid_email(email)
            check_password(password)
        except AuthError as error:
            raise OperatorRejected(error.message) from error
        password_hash = await hash_password(password)
        async with self._pool.connection() as conn:
            user = await auth_users.create(conn, email, password_hash, {"role": role}, {})
        if user is None:
            raise OperatorExists(email)
        return _account(user)

    async def list(self) -> list[OperatorAccount]:
        async with self._pool.connection() as conn:
            users = await auth_users.list_users(conn, 100_000, 0)
        return sorted(map(_account, users), key=lambda account: account.email)

    async def set_role(self, email: str, role: Role) -> OperatorAccount:
        async with self._pool.connection() as conn:
            user = await _by_email(conn, email)
            changed = await auth_users.update(conn, user["id"], app_metadata={"role": role})
        return _account(changed or user)

    async def disable(self, email: str) -> OperatorAccount:
        async with self._pool.connection() as conn:
            user = await _by_email(conn, email)
            changed = await auth_users.ban(conn, user["id"], BAN_SECONDS)
            await auth_sessions.end(conn, user["id"], None, "global")
        return _account(changed or user)

    async def enable(self, email: str) -> OperatorAccount:
        async with self._pool.connection() as conn:
            user = await _by_email(conn, email)
            changed = await auth_users.ban(conn, user["id"], None)
        return _account(changed or user)


@asynccontextmanager
async def builtin_operators(database_url: str) -> AsyncGenerator[BuiltinOperators]:
    """The operators, for a process that serves nothing. The database must be migrated."""
    async with create_pool(database_url, role=AUTH_ROLE, min_size=1, max_size=1) as pool:
        yield BuiltinOperators(pool)


async def add_operator(conn: Connection, email: str, password_hash: str, role: Role) -> bool:
    """Add an operator who can sign in at once; False when another user has the email address.

    The connection acts as `AUTH_ROLE`.
    """
    return await auth_users.create(conn, email, password_hash, {"role": role}, {}) is not None


async def _by_email(conn: Connection, email: str) -> DictRow:
    user = await auth_users.by_email(conn, email.strip())
    if user is None:
        raise NoSuchOperator(email)
    return user


def _account(user: DictRow) -> OperatorAccount:
    return OperatorAccount(
        id=user["id"],
        email=user["email"],
        role=role_in(user["app_metadata"]),
        disabled=user["banned"],
        created_at=user["created_at"],
        last_sign_in_at=user["last_sign_in_at"],
    )
