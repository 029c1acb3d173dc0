"""Migrations: from empty to newest, once, and never over an edited file."""

from __future__ import annotations

import psycopg
import pytest

from onsembl.sql import migrate as module
from onsembl.sql.migrate import ChangedMigration, UnknownMigration, migrate


async def test_a_migrated_database_has_nothing_left_to_apply(database_url: str):
    """Migrating twice applies nothing the second time."""
    assert await migrate(database_url, standin=True) == []


def test_every_table_has_row_level_security(database_url: str):
    """No table of ours, of the queue or of the stand-in is without it."""
    with psycopg.connect(database_url) as conn:
        bare = conn.execute(
            """select schemaname || '.' || tablename from pg_tables
               where schemaname not in ('pg_catalog', 'information_schema') and not rowsecurity"""
        ).fetchall()
    assert bare == []


async def test_an_edited_migration_is_refused(database_url: str):
    """A file that differs from what was applied stops the program."""
    with psycopg.connect(database_url) as conn:
        conn.execute("update onsembl_migrations.applied set checksum = 'x' where name = 'migrations/0001_core.sql'")
    with pytest.raises(ChangedMigration, match="0001_core"):
        await migrate(database_url, standin=True)


async def test_a_newer_database_is_refused(database_url: str):
    """An older program does not touch a database that a newer one has migrated."""
    with psycopg.connect(database_url) as conn:
        conn.execute("insert into onsembl_migrations.applied (name, checksum) values ('migrations/9999_x.sql', '')")
    with pytest.raises(UnknownMigration, match="9999_x"):
        await migrate(database_url, standin=True)


def test_migrations_are_numbered_without_gaps():
    """The files of each set are 0001, 0002 and so on."""
    for folder in ("standin", "migrations"):
        names = [m.name for m in module.migrations(standin=True) if m.name.startswith(folder + "/")]
        assert [name.split("/")[1][:4] for name in names] == [f"{n:04}" for n in range(1, len(names) + 1)]
