"""The operators that the stand-in keeps."""

from __future__ import annotations

from datetime import timedelta

from psycopg.rows import DictRow

from onsembl.protocol.states import Role
from onsembl.realtime.auth.accounts import check_password, valid_email
from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.passwords import hash_password
from onsembl.realtime.operators import NoSuchOperator, OperatorAccount, OperatorExists, OperatorRefused, role_in
from onsembl.sql import auth_sessions, auth_users
from onsembl.sql.database import Connection, Pool

FOR_EVER = timedelta(days=365 * 100).total_seconds()


class StandinOperators:
    """An OperatorDirectory over a pool whose connections act as `onsembl_auth`. It needs no running server."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, email: str, password: str, role: Role) -> OperatorAccount:
        try:
            email = valid_email(email)
            check_password(password)
        except AuthError as error:
            raise OperatorRefused(error.message) from error
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
            changed = await auth_users.ban(conn, user["id"], FOR_EVER)
            await auth_sessions.end(conn, user["id"], None, "global")
        return _account(changed or user)

    async def enable(self, email: str) -> OperatorAccount:
        async with self._pool.connection() as conn:
            user = await _by_email(conn, email)
            changed = await auth_users.ban(conn, user["id"], None)
        return _account(changed or user)


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
