"""Migrations: each is applied once, from the empty database to the newest schema, and an edited file is rejected."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from onsembl.sql import migrate as module
from onsembl.sql.migrate import ChangedMigration, Migration, UnknownMigration, migrate


async def test_a_migrated_database_has_nothing_left_to_apply(database_url: str):
    """A second run of the migrations applies none."""
    assert await migrate(database_url, builtin_supabase=True) == []


def test_every_table_has_row_level_security(database_url: str):
    """Every table has row-level security: ours, the queue's and the built-in Supabase's."""
    with psycopg.connect(database_url) as conn:
        bare = conn.execute(
            """select schemaname || '.' || tablename from pg_tables
               where schemaname not in ('pg_catalog', 'information_schema') and not rowsecurity"""
        ).fetchall()
    assert bare == []


async def test_an_edited_migration_is_refused(database_url: str):
    """A file that differs from the applied migration stops the program."""
    with psycopg.connect(database_url) as conn:
        conn.execute("update onsembl_migrations.applied set checksum = 'x' where name = 'migrations/0001_core.sql'")
    with pytest.raises(ChangedMigration, match="0001_core"):
        await migrate(database_url, builtin_supabase=True)


async def test_a_newer_database_is_refused(database_url: str):
    """A program rejects a database that a newer version has migrated."""
    with psycopg.connect(database_url) as conn:
        conn.execute("insert into onsembl_migrations.applied (name, checksum) values ('migrations/9999_x.sql', '')")
    with pytest.raises(UnknownMigration, match="9999_x"):
        await migrate(database_url, builtin_supabase=True)


def test_migrations_are_numbered_without_gaps():
    """The files of each folder are numbered 0001, 0002 and so on."""
    for folder in ("standin", "migrations"):
        names = [m.name for m in module.migrations(builtin_supabase=True) if m.name.startswith(folder + "/")]
        assert [name.split("/")[1][:4] for name in names] == [f"{n:04}" for n in range(1, len(names) + 1)]


async def test_what_was_logged_before_the_log_had_days_is_kept(postgres, monkeypatch):
    """Rows of an older audit log move to their days' partitions with their ids, and new ids continue these."""
    name = f"test_{uuid4().hex}"
    url = postgres.url(name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        conn.execute(f"create database {name}")
    everything = module.migrations

    def before(**options: bool) -> list[Migration]:
        return [m for m in everything(**options) if m.name < "migrations/0006" or not m.name.startswith("migrations/")]

    try:
        monkeypatch.setattr(module, "migrations", before)
        await migrate(url, builtin_supabase=True)
        with psycopg.connect(url) as conn:
            conn.execute(
                """insert into onsembl.audit (at, actor_kind, action, outcome)
                   select now() - make_interval(days => n), 'system', 'audit.dropped', 'ok'
                   from generate_series(0, 5) n"""
            )
        monkeypatch.undo()
        assert "migrations/0006_audit_chain.sql" in await migrate(url, builtin_supabase=True)
        with psycopg.connect(url) as conn:
            conn.execute("insert into onsembl.audit (actor_kind, action, outcome) values ('system', 'x', 'ok')")
            ids = conn.execute("select id from onsembl.audit order by id").fetchall()
            days = conn.execute("select count(distinct tableoid) from onsembl.audit").fetchone()
        assert ([id for (id,) in ids], days) == ([1, 2, 3, 4, 5, 6, 7], (6,))
    finally:
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
            conn.execute(f"drop database {name} with (force)")
