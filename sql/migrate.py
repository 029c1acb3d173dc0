"""Updates a database to the newest schema: numbered files, forward only, each applied once in its own transaction.

Three sets, in this order: the objects of a Supabase project (only for the built-in Supabase), Procrastinate's own
schema, and ours. Each applied migration is recorded with its checksum, so a later edit of its file is noticed. A
migration that an earlier version applied under another name or text is recognised (sql/earlier_migrations.py).

To change the schema, add the next number to sql/migrations (or sql/standin) and write only the change. Never edit,
rename or remove a file that is committed: tests/sql/test_frozen.py compares each with its first version in git. To
correct a migration, add another. Each file is one transaction and must keep every row; the release before it still
runs on its tables during an update, so add columns with defaults, and drop one only a release after its last use. Give
every table row-level security, its policies and its grants.

    MigrationError
    ├── ChangedMigration      a file differs from the migration that was applied
    ├── UnknownMigration      the database is newer than this program
    ├── FailedMigration       the database rejects a migration
    └── UnusablePublication   the publication that Realtime follows takes no tables
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import sql

from onsembl.sql import supabase_setup
from onsembl.sql.database import Connection, connect
from onsembl.sql.earlier_migrations import EarlierMigration, recognised

logger = logging.getLogger(__name__)

LOCK = 0x6F6E7365  # one migrator at a time; the number is arbitrary


class MigrationError(Exception):
    """The database cannot be updated to this program's schema."""


class ChangedMigration(MigrationError):
    """A migration was edited after it was applied."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The migration {name} differs from the file applied to this database; migrations are never edited."
        )


class UnknownMigration(MigrationError):
    """The database knows a migration that this program does not."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The database has the migration {name}, which this version does not know: use a newer version."
        )


class FailedMigration(MigrationError):
    """The database rejects a migration, and is as before it; the cause is psycopg's error."""

    def __init__(self, name: str, error: psycopg.Error) -> None:
        super().__init__(f"The migration {name} failed: {str(error).splitlines()[0]}.")


class UnusablePublication(MigrationError):
    """The publication `supabase_realtime` is for all tables, and so none can be added to it."""

    def __init__(self) -> None:
        super().__init__(
            "The publication supabase_realtime is for all tables, and Onsembl adds its own tables to it. Replace it: "
            "drop publication supabase_realtime; create publication supabase_realtime; then add the tables of your "
            "other programs to it."
        )


@dataclass(frozen=True, slots=True)
class Migration:
    """One file; `schema` is the schema of its unqualified names."""

    name: str
    text: str
    schema: str = "public"
    checked: bool = True

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(*, builtin_supabase: bool, ours: bool = True) -> list[Migration]:
    """All migrations, in order."""
    # The folder keeps this name: databases record applied migrations by it, and sql/frozen.sha256 lists it.
    found = list(_files("standin")) if builtin_supabase else []
    return [*found, *_procrastinate(), *_files("migrations")] if ours else found


def _files(folder: str) -> Iterator[Migration]:
    package = files("onsembl.sql").joinpath(folder)
    for file in sorted(package.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            yield Migration(f"{folder}/{file.name}", file.read_text())


def _text(folder: str, name: str) -> str:
    return files("onsembl.sql").joinpath(folder).joinpath(name).read_text()


def _procrastinate() -> Iterator[Migration]:
    """Procrastinate's schema at the library's version. A newer library may have another text, so it is not checked."""
    yield Migration("procrastinate/schema", SchemaManager.get_schema(), schema="procrastinate", checked=False)


def _procrastinate_upgrades() -> dict[str, str]:
    folder = Path(SchemaManager.get_migrations_path())
    return {file.name: file.read_text() for file in sorted(folder.glob("*.sql"))}


async def missing_migrations(url: str) -> list[str]:
    """The names of our migrations that are not applied, or only in an earlier version. Raises MigrationError."""
    async with await connect(url, autocommit=True) as conn:
        applied = await _applied(conn)
    current = _without(applied, recognised(applied))
    _check(current, migrations(builtin_supabase=True))
    wanted = migrations(builtin_supabase=False)
    return [migration.name for migration in wanted if migration.name not in current]


async def migrate(url: str, *, builtin_supabase: bool, ours: bool = True) -> list[str]:
    """Apply the missing migrations; return the names of the applied migrations and repairs. Raises MigrationError.

    `builtin_supabase` adds the objects of a Supabase project, for a database without one; without `ours`, only these
    objects are added.
    """
    # Autocommit, so that each migration is a transaction of its own.
    async with await connect(url, autocommit=True) as conn:
        await conn.execute("select pg_advisory_lock(%s)", [LOCK])
        try:
            await _ensure_record(conn)
            if ours and not builtin_supabase:
                await _require_publication(conn)
            return await _apply_missing(conn, migrations(builtin_supabase=builtin_supabase, ours=ours))
        finally:
            await conn.execute("select pg_advisory_unlock(%s)", [LOCK])


async def _require_publication(conn: Connection) -> None:
    """Create the publication that a Supabase project may lack. Raises UnusablePublication before the first migration
    that adds a table to it."""
    found = await supabase_setup.publication(conn)
    if found is None:
        await supabase_setup.ensure_publication(conn)
    elif found.all_tables and not await _applied(conn):
        raise UnusablePublication


async def _apply_missing(conn: Connection, wanted: list[Migration]) -> list[str]:
    applied = await _applied(conn)
    earlier = recognised(applied)
    _check(_without(applied, earlier), migrations(builtin_supabase=True))
    done: list[str] = []
    known = {migration.name: migration for migration in wanted}
    for found in earlier:
        if found.today in known:
            done += await _bring_up_to_date(conn, found, known[found.today])
    applied = await _applied(conn)
    for migration in wanted:
        if migration.name not in applied:
            await _apply(conn, migration)
            done.append(migration.name)
    if any(migration.name == "procrastinate/schema" for migration in wanted):
        done += await _upgrade_procrastinate(conn, fresh="procrastinate/schema" in done)
    return done


def _without(applied: dict[str, str], earlier: Iterable[EarlierMigration]) -> dict[str, str]:
    """The applied migrations, except the earlier ones."""
    names = {found.name for found in earlier}
    return {name: checksum for name, checksum in applied.items() if name not in names}


def _check(applied: dict[str, str], wanted: list[Migration]) -> None:
    known = {migration.name: migration for migration in wanted}
    for name, checksum in applied.items():
        folder = name.partition("/")[0]
        if folder == "procrastinate":
            continue
        if name not in known:
            raise UnknownMigration(name)
        if known[name].checksum != checksum:
            raise ChangedMigration(name)


async def _has_record(conn: Connection) -> bool:
    cursor = await conn.execute("select to_regclass('onsembl_migrations.applied') is not null as found")
    row = await cursor.fetchone()
    assert row is not None
    return row["found"]


async def _ensure_record(conn: Connection) -> None:
    if not await _has_record(conn):
        await conn.execute(
            """create schema if not exists onsembl_migrations;
            create table onsembl_migrations.applied (
                name text primary key,
                checksum text not null,
                applied_at timestamptz not null default now());
            alter table onsembl_migrations.applied enable row level security"""
        )


async def _applied(conn: Connection) -> dict[str, str]:
    if not await _has_record(conn):
        return {}
    cursor = await conn.execute("select name, checksum from onsembl_migrations.applied order by name")
    return {row["name"]: row["checksum"] for row in await cursor.fetchall()}


async def _bring_up_to_date(conn: Connection, found: EarlierMigration, today: Migration) -> list[str]:
    """Apply the repairs of an earlier migration and record it as the current migration; return the names of the
    repairs."""
    repairs = [Migration(f"repairs/{name}", _text("repairs", name)) for name in found.repairs]
    async with conn.transaction():
        for repair in repairs:
            await _execute(conn, repair)
        if found.apply_again:
            await conn.execute("delete from onsembl_migrations.applied where name = %s", [found.name])
        else:
            await conn.execute(
                "update onsembl_migrations.applied set name = %s, checksum = %s where name = %s",
                [today.name, today.checksum, found.name],
            )
    logger.info(
        "Recognised %s as an earlier version of %s",
        *(found.name, today.name),
        extra={"action": "migration_recognised", "migration": today.name, "earlier": found.name},
    )
    return [repair.name for repair in repairs]


async def _execute(conn: Connection, migration: Migration) -> None:
    await conn.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(migration.schema)))
    await conn.execute(migration.text.encode())


async def _apply(conn: Connection, migration: Migration) -> None:
    try:
        async with conn.transaction():
            if migration.schema != "public":
                await conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(migration.schema)))
            await _execute(conn, migration)
            await _note(conn, migration.name, migration.checksum)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise FailedMigration(migration.name, error) from error
    logger.info("Applied %s", migration.name, extra={"action": "migrated", "migration": migration.name})


async def _note(conn: Connection, name: str, checksum: str) -> None:
    await conn.execute("insert into onsembl_migrations.applied (name, checksum) values (%s, %s)", [name, checksum])


async def _upgrade_procrastinate(conn: Connection, *, fresh: bool) -> list[str]:
    """Apply the upgrades that a newer library has; a fresh schema already contains them. Return the applied
    migrations."""
    applied = await _applied(conn)
    done: list[str] = []
    for file, text in _procrastinate_upgrades().items():
        migration = Migration(f"procrastinate/{file}", text, schema="procrastinate", checked=False)
        if migration.name in applied:
            continue
        if fresh:
            await _note(conn, migration.name, migration.checksum)
        else:
            await _apply(conn, migration)
            done.append(migration.name)
    return done
