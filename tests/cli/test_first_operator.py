"""The admin account that the first start creates, while the database goes away."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest
from argon2 import PasswordHasher

from onsembl.cli.server import first_operator
from onsembl.cli.server.first_operator import EMAIL, create_first_operator
from onsembl.sql import auth_users
from onsembl.sql.database import Connection, connect


@pytest.mark.parametrize("lost", ["before the commit", "after the commit"])
async def test_the_password_is_told_although_the_database_went_away(database_url, monkeypatch, lost: str) -> None:
    """Whether the first attempt was written or not, the password that is told is that of the account; a second start
    tells none."""
    attempts = 0

    async def lost_once(url: str, **options) -> object:
        nonlocal attempts
        attempts += 1
        conn = await connect(url, **options)
        return _losing(conn, lost) if attempts == 1 else conn

    monkeypatch.setattr(first_operator, "connect", lost_once)
    monkeypatch.setattr(first_operator, "RETRY_SECONDS", 0.0)
    created = await create_first_operator(database_url)
    assert created is not None and attempts == 2
    async with await connect(database_url) as conn:
        row = await auth_users.by_email(conn, EMAIL)
    assert row is not None and PasswordHasher().verify(row["encrypted_password"], created[1])
    assert await create_first_operator(database_url) is None


@asynccontextmanager
async def _losing(conn: Connection, lost: str) -> AsyncGenerator[Connection]:
    """A connection that is lost at the end of its block."""
    async with conn:
        yield conn
        if lost == "before the commit":
            await conn.rollback()
        else:
            await conn.commit()
    raise psycopg.OperationalError("server closed the connection unexpectedly")
