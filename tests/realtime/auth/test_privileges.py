"""Database privileges on the schema of the built-in Supabase Auth."""

from __future__ import annotations

from itertools import product

import psycopg
import pytest
from support.cases import cases

from onsembl.realtime.auth.settings import AUTH_ROLE
from onsembl.sql.database import connect

TABLES = ["users", "sessions", "signing_keys", "project"]


@cases(("role", "table"), [*product(["onsembl_api", "anon", "authenticated", "service_role"], TABLES)])
async def test_no_other_role_reads_or_writes(database_url: str, role: str, table: str) -> None:
    """Only the Auth role reads and writes password hashes and keys; the API's role does not either."""
    for statement in (f"select * from auth.{table}", f"delete from auth.{table}"):
        async with await connect(database_url, role=role, autocommit=True) as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(statement)  # type: ignore[arg-type]


async def test_the_auth_role_reads_nothing_else(database_url: str) -> None:
    """The Auth role has no privilege on the product's tables."""
    async with await connect(database_url, role=AUTH_ROLE, autocommit=True) as conn:
        for table in ("agents", "commands", "audit", "signing_keys"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(f"select * from onsembl.{table}")  # type: ignore[arg-type]


async def test_every_table_has_row_level_security(database_url: str) -> None:
    """Row-level security is enabled on each table of the schema `auth`."""
    async with await connect(database_url) as conn:
        cursor = await conn.execute(
            "select relname from pg_class where relnamespace = 'auth'::regnamespace and relkind = 'r'"
            " and not relrowsecurity"
        )
        assert await cursor.fetchall() == []
