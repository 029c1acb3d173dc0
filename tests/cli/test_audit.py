"""`onsembl audit` on a database: verify and export."""

from __future__ import annotations

import json
import subprocess

import psycopg
import pytest
from support.command_line import run_in_process
from support.control_center import clean_environment

from onsembl.fleet.audit_seal import seal_new_rows
from onsembl.sql.database import connect


def onsembl(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_in_process("audit", *arguments, environment=clean_environment(DATABASE_URL=database_url))


@pytest.fixture
async def log(database_url: str) -> str:
    """A sealed log of a thousand rows."""
    async with await connect(database_url, autocommit=True) as conn:
        await conn.execute(
            """insert into audit (actor_kind, actor_name, action, outcome)
               select 'operator', 'ada@example.org', 'command.requested', 'ok' from generate_series(1, 1000)"""
        )
        sealed = 0
        while sealed < 1000:
            async with conn.transaction():
                sealed += await seal_new_rows(conn)
    return database_url


def test_an_intact_log_is_verified(log: str):
    """verify prints the head hash, and finds it again with --expect-head."""
    whole = onsembl(log, "verify")
    assert (whole.returncode, whole.stdout.splitlines()[0]) == (
        0,
        "The log is intact: 1000 rows, none changed, removed or inserted.",
    ), whole.stderr
    head = json.loads(onsembl(log, "verify", "--json").stdout)["head"]
    assert f"Head: {head['hash']} (link 1000)" in whole.stdout
    assert onsembl(log, "verify", "--expect-head", head["hash"]).returncode == 0
    assert onsembl(log, "verify", "--expect-head", "ab" * 32).returncode == 1


def test_a_changed_row_is_named(log: str):
    """verify names the row as text and as JSON, and exits with 1."""
    with psycopg.connect(log, autocommit=True) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute("update onsembl.audit set actor_name = 'eve' where id = 17")
    told = onsembl(log, "verify")
    assert (told.returncode, told.stdout.splitlines()[0]) == (1, "WRONG  audit row 17 was changed")
    result = json.loads(onsembl(log, "verify", "--json").stdout)
    assert (result["ok"], result["wrong"], result["findings"]) == (False, 1, ["audit row 17 was changed"])


def test_an_export_is_filtered_written_and_logged(log: str, tmp_path):
    """export filters rows, writes them to stdout or a file, and records the export in the log."""
    first = onsembl(log, "export", "--since", "1d", "--actor", "ada")
    assert first.returncode == 0, first.stderr
    assert (len(first.stdout.splitlines()), first.stderr.strip()) == (1000, "1000 rows.")
    target = tmp_path / "log.csv"
    assert onsembl(log, "export", "--action", "audit.", "--format", "csv", "-o", str(target)).returncode == 0
    head, row, _ = target.read_text().splitlines()
    assert head.startswith("id,at,actor_kind") and "at the command line" in row and "audit.exported" in row
    wrong = onsembl(log, "export", "--since", "soon")
    assert wrong.returncode == 2 and "is neither a time" in wrong.stderr
