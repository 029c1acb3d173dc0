"""A database of any earlier commit is upgraded to the present schema, and keeps every row."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from support.catalog import differences, schema_of
from support.databases import fresh_database
from support.frozen import first_committed, git
from support.histories import History, histories
from support.server import PASSWORD, running

from onsembl.api.settings import Settings
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.fleet.audit_seal import verify
from onsembl.sql import agents, audit_chain, command_history
from onsembl.sql import migrate as module
from onsembl.sql.command_history import HistoryFilter
from onsembl.sql.database import connect
from onsembl.sql.earlier_migrations import EARLIER, EarlierMigration
from onsembl.sql.migrate import ChangedMigration, Migration, migrate, missing_migrations

ROOT = Path(__file__).resolve().parents[2]
DUMPS = Path(__file__).parent / "dumps"
"""Each dump was made by running its commit: two agents, one with a stolen token, commands in every final state and
queued commands, an emergency stop, and the rows of its other features. `zcat` prints a dump; its first lines count the
rows."""
COUNT = re.compile(r"^-- (\d+) (\S+)$", re.MULTILINE)
NOTES = "onsembl_migrations.applied"
TODAY = {
    migration.name: migration.checksum for migration in module.migrations(builtin_supabase=True) if migration.checked
}
TABLES = """select format('%I.%I', n.nspname, c.relname),
        array(select attname from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^pg_|^information_schema$'"""

Rows = dict[str, tuple[list[str], Counter[tuple[str | None, ...]]]]


def restore(dump: Path, url: str) -> dict[str, int]:
    """Run the dump's statements; return the number of rows that each table had in the dump."""
    text = gzip.decompress(dump.read_bytes()).decode()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(text.encode())
    return {name: int(count) for count, name in COUNT.findall(text.partition("\n\n")[0])}


def rows_of(url: str, columns: dict[str, list[str]] | None = None) -> Rows:
    """Every row of every table, as text, with these columns or with all."""
    with psycopg.connect(url) as conn:
        found = dict(conn.execute(TABLES).fetchall())
        wanted = columns if columns is not None else found
        rows: Rows = {}
        for table, names in wanted.items():
            listed = ", ".join(f'"{name}"::text' for name in names)
            rows[table] = names, Counter(conn.execute(f"select {listed} from {table}").fetchall())  # type: ignore[arg-type]
    return rows


def renamed(names: list[str], rows: Counter[tuple[str | None, ...]]) -> Counter[tuple[str | None, ...]]:
    """These rows with the present name of the limit on working time."""
    places = [names.index(name) for name in ("limits", "limit_passed", "cancel_step") if name in names]
    changed: Counter[tuple[str | None, ...]] = Counter()
    for row, count in rows.items():
        texts = list(row)
        for place in places:
            texts[place] = (row[place] or "").replace("wall_seconds", "work_seconds") or None
        changed[tuple(texts)] += count
    return changed


def applied_to(url: str) -> dict[str, str]:
    """The names and checksums of the applied migrations, without those of the queue's library."""
    with psycopg.connect(url) as conn:
        query = f"select name, checksum from {NOTES} where name not like 'procrastinate/%'"
        return dict(conn.execute(query).fetchall())  # type: ignore[arg-type]


async def make(url: str, history: History, monkeypatch: pytest.MonkeyPatch, *, builtin_supabase: bool = True) -> None:
    """Migrate as the program of that commit did: apply its migrations that the database lacks."""

    def its_own(*, builtin_supabase: bool, ours: bool = True) -> list[Migration]:
        queue = [migration for migration in today(builtin_supabase=False) if not migration.checked]
        return [*(history.builtin_supabase if builtin_supabase else ()), *(queue + list(history.ours) if ours else ())]

    today = module.migrations
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", its_own)
        patch.setattr(module, "recognised", lambda applied: list[EarlierMigration]())
        patch.setattr(module, "_check", lambda *_: None)
        await migrate(url, builtin_supabase=builtin_supabase)


@pytest.mark.parametrize("commit", ["6ef6812", "640524e", "a446a0c"])
async def test_a_database_of_an_earlier_commit_is_upgraded(commit: str, empty_database_url: str, database_url: str):
    """An upgraded database has the schema of a new one and every row, and the program reads it; a migration that moves
    or changes rows lists these here."""
    url = empty_database_url
    counted = restore(DUMPS / f"{commit}.sql.gz", url)
    before = rows_of(url)
    assert {table: rows.total() for table, (_, rows) in before.items()} == counted
    assert [table for table, rows in counted.items() if not rows] == ["realtime.outbox"]
    assert applied_to(url) != TODAY

    await migrate(url, builtin_supabase=True)

    after = rows_of(url, {table: columns for table, (columns, _) in before.items()})
    expected = {table: (names, renamed(names, rows)) for table, (names, rows) in before.items()}
    assert [table for table in before if after[table] != expected[table]] == [NOTES]
    assert applied_to(url) == TODAY
    assert differences(schema_of(database_url), schema_of(url)) == ""
    assert await migrate(url, builtin_supabase=True) == []
    async with await connect(url, role="onsembl_api", autocommit=True) as conn:
        assert len(await agents.list_agents(conn)) == counted["onsembl.agents"]
        listed = await command_history.page(conn, HistoryFilter(), None, 1000)
        assert len(listed) == counted["onsembl.commands"]
        chain = await verify(conn, frozenset())
        assert (chain.findings, chain.checked) == ([], counted["onsembl.audit_chain"])
        assert (await audit_chain.status(conn))["unsealed"] == 0


@pytest.mark.parametrize("commit", ["6ef6812", "640524e", "a446a0c"])
async def test_a_control_center_serves_an_upgraded_database(commit: str, empty_database_url: str):
    """Operators sign in to an upgraded database with their old passwords, and read its rows."""
    counted = restore(DUMPS / f"{commit}.sql.gz", empty_database_url)
    await migrate(empty_database_url, builtin_supabase=True)
    async with running(Settings(database_url=empty_database_url, public_url="", worker=None)) as api:
        signed_in = await api.http.post(
            "/auth/v1/token?grant_type=password",
            json={"email": "ada@example.org", "password": PASSWORD},
            headers={"apikey": await api.key()},
        )
        headers = {"Authorization": f"Bearer {signed_in.json()['access_token']}"}
        found = {
            path: (await api.http.get(f"/v1/{path}", headers=headers)).json()[path]
            for path in ("agents", "commands", "alerts", "schedules", "presets")
        }
    assert {agent["name"] for agent in found["agents"]} == {"builder-1", "builder-2", "thief"}
    assert len(found["commands"]) == counted["onsembl.commands"]
    assert len(found["alerts"]) == counted["onsembl.alerts"]
    assert len(found["schedules"]) == counted.get("onsembl.schedules", 0)
    assert sum(not preset["shipped"] for preset in found["presets"]) == counted.get("onsembl.presets", 0)


def test_every_migration_that_a_commit_had_is_known():
    """The earlier migrations listed are exactly those of all commits, under every name and checksum."""
    ever = {item for history in histories(ROOT) for item in history.applied.items()}
    for path, (blob, _) in first_committed(ROOT).items():
        if not (ROOT / path).exists():  # renumbered since the freeze
            migration = Migration(path.removeprefix("sql/"), git(ROOT, "cat-file", "blob", blob))
            ever.add((migration.name, migration.checksum))
    earlier = {(migration.name, migration.checksum) for migration in EARLIER}
    assert ever - set(TODAY.items()) == earlier
    assert {migration.today for migration in EARLIER} <= set(TODAY)


def test_a_schema_that_differs_is_told_from_todays(database_url: str):
    """A comparison of schemas finds a change of each kind."""
    changes = {
        "alter table onsembl.agents add column x integer": "+ column | onsembl.agents | x | integer",
        "alter table onsembl.agents alter column host set default 'x'": "+ column | onsembl.agents | host",
        "alter table onsembl.agents alter column kind drop not null": "+ column | onsembl.agents | kind | text | False",
        "alter table onsembl.agents alter column rows type bigint": "+ column | onsembl.agents | rows | bigint",
        "alter table onsembl.agents drop constraint agents_name_key": "- constraint | onsembl.agents | agents_name_key",
        "alter table onsembl.presets disable row level security": "+ relation | onsembl.presets",
        "drop index onsembl.agents_labels": "- index | onsembl.agents_labels",
        "grant delete on onsembl.halts to onsembl_api": "+ relation | onsembl.halts",
        "grant select (name) on onsembl.presets to anon": "+ column | onsembl.presets | name",
        "grant usage on schema onsembl to anon": "+ schema | onsembl",
        "grant execute on function onsembl.keep_audit_partitions(integer) to anon": "+ function | onsembl.keep_audit",
        "alter function onsembl.is_operator() security invoker": "+ function | onsembl.is_operator",
        "create or replace function auth.role() returns text language sql return 'x'::text": "+ function | auth.role",
        "alter policy api on onsembl.agents using (false)": "+ policy | onsembl.agents | api",
        "alter table onsembl.audit disable trigger append_only": "+ trigger | onsembl.audit | append_only",
        "alter publication supabase_realtime drop table onsembl.agents": "- published | supabase_realtime",
        "alter publication supabase_realtime set (publish = 'insert')": "+ publication | supabase_realtime",
        "create type onsembl.mood as enum ('good')": "+ type | onsembl.mood",
        "create view onsembl.names as select name from onsembl.agents": "+ relation | onsembl.names | v",
        "alter sequence onsembl.alerts_id_seq increment by 2": "+ sequence | onsembl.alerts_id_seq",
        "alter extension pg_trgm set schema onsembl": "+ extension | pg_trgm | onsembl",
    }
    before = schema_of(database_url)
    with psycopg.connect(database_url) as conn:
        for change in changes:
            conn.execute(change)  # type: ignore[arg-type]
    found = differences(before, schema_of(database_url)).splitlines()
    assert [change for change, start in changes.items() if not any(line.startswith(start) for line in found)] == []


async def test_a_repair_that_fails_leaves_the_database_as_it_was(empty_database_url: str):
    """A failed repair leaves the database unchanged, and the next attempt succeeds."""
    restore(DUMPS / "640524e.sql.gz", empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("alter table onsembl.enrolment_tokens add column id integer")
    before = applied_to(empty_database_url)
    with pytest.raises(psycopg.errors.DuplicateColumn):
        await migrate(empty_database_url, builtin_supabase=True)
    assert applied_to(empty_database_url) == before
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("alter table onsembl.enrolment_tokens drop column id")
    assert "repairs/enrolment_tokens_id.sql" in await migrate(empty_database_url, builtin_supabase=True)


async def test_what_an_earlier_version_applied_counts_as_missing(empty_database_url: str):
    """`onsembl supabase check` reports a migration that an earlier version applied as missing, not as an edited
    file."""
    restore(DUMPS / "640524e.sql.gz", empty_database_url)
    assert "migrations/0019_doors.sql" in await missing_migrations(empty_database_url)
    await migrate(empty_database_url, builtin_supabase=False)
    assert await missing_migrations(empty_database_url) == []


async def test_a_user_whose_address_nobody_confirmed_still_signs_in(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A user of the first versions, who never confirmed an address, counts as confirmed after the upgrade and can sign
    in."""
    first = next(migration for migration in EARLIER if "auth_columns.sql" in migration.repairs)
    history = next(h for h in histories(ROOT) if h.applied.get(first.name) == first.checksum)
    await make(empty_database_url, history, monkeypatch)
    with psycopg.connect(empty_database_url) as conn:
        conn.execute("insert into auth.users (email, encrypted_password) values ('ada@example.org', '')")
    await migrate(empty_database_url, builtin_supabase=True)
    with psycopg.connect(empty_database_url) as conn:
        found = conn.execute("select email, email_confirmed_at = created_at from auth.users").fetchall()
    assert found == [("ada@example.org", True)]


async def test_a_text_that_no_commit_had_is_refused(empty_database_url: str):
    """A migration with an unknown checksum is rejected, because only known checksums are repaired."""
    restore(DUMPS / "640524e.sql.gz", empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute(f"update {NOTES} set checksum = 'x' where name = 'migrations/0019_doors.sql'")  # type: ignore[arg-type]
    with pytest.raises(ChangedMigration, match="0019_doors"):
        await migrate(empty_database_url, builtin_supabase=True)


@pytest.mark.soak
@pytest.mark.seconds(60)
async def test_every_history_is_upgraded(
    postgres: EmbeddedPostgres, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A database of each commit that changed migrations is upgraded."""
    wanted = schema_of(database_url)
    for history in histories(ROOT):
        with fresh_database(postgres) as url:
            await make(url, history, monkeypatch)
            await migrate(url, builtin_supabase=True)
            assert differences(wanted, schema_of(url)) == "", history.commit
            assert applied_to(url) == TODAY, history.commit


@pytest.mark.soak
@pytest.mark.seconds(60)
async def test_every_history_is_upgraded_that_came_about_step_by_step(
    postgres: EmbeddedPostgres, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A database that was upgraded commit by commit, as far as the earlier programs started on it, is upgraded."""
    wanted = schema_of(database_url)
    chains: list[list[History]] = []
    for history in histories(ROOT):
        if chains and history.continues(chains[-1][-1]):
            chains[-1].append(history)
        else:
            chains.append([history])
    for chain in chains:
        with fresh_database(postgres) as url:
            for history in chain:
                await make(url, history, monkeypatch)
            await migrate(url, builtin_supabase=True)
            assert differences(wanted, schema_of(url)) == "", chain[-1].commit
            assert applied_to(url) == TODAY, chain[-1].commit


@pytest.mark.soak
@pytest.mark.seconds(60)
async def test_every_history_of_a_hosted_project_is_upgraded(
    postgres: EmbeddedPostgres, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A hosted project's database of each commit is upgraded, without a repair of Supabase's own tables."""
    wanted = schema_of(database_url)
    for history in histories(ROOT):
        with fresh_database(postgres) as url:
            await migrate(url, builtin_supabase=True, ours=False)
            await make(url, history, monkeypatch, builtin_supabase=False)
            await migrate(url, builtin_supabase=False)
            assert differences(wanted, schema_of(url)) == "", history.commit
            assert applied_to(url) == TODAY, history.commit
