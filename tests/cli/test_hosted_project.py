"""Hosted mode, against a second process that plays the Supabase project."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from support.command_line import run_in_process
from support.control_center import clean_environment
from support.supabase_project import SupabaseProject, supabase_project


def onsembl(project: SupabaseProject, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run_in_process(*arguments, environment=project.environment | more)


@pytest.fixture
def project(postgres) -> Iterator[SupabaseProject]:
    with supabase_project(postgres) as project:
        yield project


def test_a_project_passes_every_check_after_setup(project: SupabaseProject):
    """check names what is missing; after setup, which can run twice, every check passes."""
    before = project.onsembl("supabase", "check", "--json")
    assert before.returncode == 1
    missing = {finding["check"]: finding for finding in json.loads(before.stdout)}
    assert not missing["migrations"]["ok"] and "setup" in missing["migrations"]["fix"]
    for _ in range(2):
        setup = onsembl(project, "supabase", "setup")
        assert setup.returncode == 0, setup.stderr
    after = project.onsembl("supabase", "check")
    assert after.returncode == 0, after.stdout + after.stderr
    assert {line.split()[0] for line in after.stdout.splitlines()} == {"ok"}


def test_operators_of_a_project_are_managed(project: SupabaseProject):
    """Operators are added, listed, changed, disabled and enabled by the project's admin interface; all is audited."""
    onsembl(project, "supabase", "setup")
    added = onsembl(
        project, "operator", "add", "a@example.org", "--role", "viewer", ONSEMBL_OPERATOR_PASSWORD="good one"
    )
    assert added.returncode == 0, added.stderr
    assert "good one" not in added.stdout
    again = onsembl(project, "operator", "add", "a@example.org")
    assert again.returncode == 1 and "a@example.org" in again.stderr
    assert onsembl(project, "operator", "set-role", "a@example.org", "admin").returncode == 0
    assert onsembl(project, "operator", "disable", "a@example.org").returncode == 0
    listed = json.loads(onsembl(project, "operator", "list", "--json").stdout)
    assert [(o["email"], o["role"], o["disabled"]) for o in listed] == [("a@example.org", "admin", True)]
    assert onsembl(project, "operator", "enable", "a@example.org").returncode == 0
    assert "enabled" in onsembl(project, "operator", "list").stdout
    with psycopg.connect(project.environment["DATABASE_URL"]) as conn:
        logged = conn.execute("select action, detail ->> 'email' from onsembl.audit order by id").fetchall()
    actions = ["operator.added", "operator.role_set", "operator.disabled", "operator.enabled"]
    assert logged == [(action, "a@example.org") for action in actions]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SUPABASE_URL": "https://p.example", "SUPABASE_SECRET_KEY": ""}, "SUPABASE_SECRET_KEY"),
        ({"DATABASE_URL": "postgresql://u:p@db.example.org:6543/postgres"}, "transaction pooler"),
        ({"DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/postgres"}, "is not responding"),
    ],
)
def test_invalid_settings_are_reported_as_an_error(changes, said, tmp_path):
    """up and setup name the fault, without a traceback and without the password."""
    nobody = "http://127.0.0.1:1"
    keys = {"SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x", "SUPABASE_SECRET_KEY": "sb_secret_x"}
    project = SupabaseProject(clean_environment(SUPABASE_URL=nobody, **keys) | changes)
    up = ["up", "--port", "0", "--data-dir", str(tmp_path), "--database-wait", "0"]
    for command in (up, ["supabase", "setup"]):
        refused = project.onsembl(*command)
        assert refused.returncode == 1
        assert said in refused.stderr and "Traceback" not in refused.stderr and "hidden" not in refused.stderr


SMTP = {"ONSEMBL_SMTP_URL": "smtps://u:hidden@mail.example.org", "ONSEMBL_SMTP_SENDER": "a@example.org"}
HOSTED = {
    "SUPABASE_URL": "http://127.0.0.1:1",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x",
    "SUPABASE_SECRET_KEY": "sb_secret_x",
    "DATABASE_URL": "postgresql://127.0.0.1:1/postgres",
}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**SMTP, "ONSEMBL_SMTP_SENDER": ""}, "Set both"),
        ({**SMTP, "ONSEMBL_SMTP_URL": "http://u:hidden@mail.example.org"}, "smtps://USER:PASSWORD@HOST"),
        ({**SMTP, "ONSEMBL_SMTP_SENDER": "nobody"}, "'nobody' is not an e-mail address"),
        ({**SMTP, **HOSTED}, "The Supabase project sends its e-mail itself"),
    ],
)
def test_a_wrong_mail_server_is_reported_as_an_error(settings, said, tmp_path):
    """up names the fault before it starts anything, without the password."""
    up = ("up", "--port", "0", "--data-dir", str(tmp_path))
    refused = run_in_process(*up, environment=clean_environment(**settings))
    assert refused.returncode == 1 and said in refused.stderr and "hidden" not in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_database_that_cannot_be_migrated_is_an_error_without_a_traceback(database_url: str):
    """supabase serve names the unknown migration."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("insert into onsembl_migrations.applied (name, checksum) values ('migrations/9999_x.sql', '')")
    result = run_in_process("supabase", "serve", environment=clean_environment(DATABASE_URL=database_url))
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ") and "9999_x" in result.stderr
