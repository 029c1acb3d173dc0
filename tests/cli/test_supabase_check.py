"""The findings of `onsembl supabase check`: each fault of a project is red and names its fix, and setup mends it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator

import pytest
from support.command_line import run_in_process
from support.supabase_project import SupabaseProject, supabase_project

from onsembl.cli.server.check_findings import Finding, find
from onsembl.cli.server.supabase_check import Checks
from onsembl.realtime.hosted import HostedProject, unprotected_address
from onsembl.sql.published_tables import EVERY_PUBLISHED, PROBES

MEND = "Run `onsembl supabase setup`."


@pytest.fixture(scope="module")
def project(postgres) -> Iterator[SupabaseProject]:
    """A project after setup. Each test leaves it whole."""
    with supabase_project(postgres) as project:
        assert setup(project).returncode == 0
        yield project


def setup(project: SupabaseProject, *options: str):
    return run_in_process("supabase", "setup", *options, environment=project.environment)


def check(project: SupabaseProject, **environment: str) -> dict[str, Finding]:
    """The findings by name, of the command itself."""
    variables = {**project.environment, **environment}
    result = run_in_process("supabase", "check", "--json", "--wait", "6", environment=variables)
    findings = [Finding(**finding) for finding in json.loads(result.stdout)]
    assert result.returncode == (0 if all(finding.ok for finding in findings) else 1)
    assert all(finding.ok == (finding.fix == "") for finding in findings)
    return {finding.check: finding for finding in findings}


def red(project: SupabaseProject, **environment: str) -> dict[str, Finding]:
    return {name: finding for name, finding in check(project, **environment).items() if not finding.ok}


def findings_of(project: SupabaseProject, *names: str) -> dict[str, Finding]:
    """The findings of these checks of the database."""
    hosted = HostedProject.from_environment(project.environment)
    assert hosted is not None
    checks = Checks(hosted, project.owner, 8, 1.0)

    async def run() -> dict[str, Finding]:
        return {name: await find(name, getattr(checks, name)) for name in names}

    return asyncio.run(run())


FAULTS = {
    "publication": "alter publication supabase_realtime drop table onsembl.{table}",
    "grants": "revoke select on onsembl.{table} from authenticated",
    "policies": "drop policy operators_read on onsembl.{table}",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_table_is_checked_for_publication_grant_and_policy(project, fault):
    """For each published table, a missing publication, grant or policy is red alone; setup mends all at once."""
    for number, table in enumerate(EVERY_PUBLISHED):
        project.execute(FAULTS[fault].format(table=table))
        found = findings_of(project, *FAULTS)
        assert {name for name, finding in found.items() if not finding.ok} == {fault}
        named = {other for other in EVERY_PUBLISHED if other in re.split(r"\W+", found[fault].detail)}
        assert named == set(list(EVERY_PUBLISHED)[: number + 1])
        assert found[fault].fix == MEND
    changes = json.loads(setup(project, "--json").stdout)["changes"]
    assert len(changes) == len(EVERY_PUBLISHED)
    assert all(finding.ok for finding in findings_of(project, *FAULTS).values())


def test_a_mended_policy_lets_the_same_operators_read(project):
    """Setup creates a missing policy with the condition that the migrations gave it."""
    conditions = (
        "select tablename, qual from pg_policies where schemaname = 'onsembl' and policyname = 'operators_read'"
    )
    before = {row["tablename"]: row["qual"] for row in project.execute(conditions)}
    project.execute(*(f"drop policy operators_read on onsembl.{table}" for table in EVERY_PUBLISHED))
    setup(project)
    assert {row["tablename"]: row["qual"] for row in project.execute(conditions)} == before


DATABASE_FAULTS = [
    (
        "alter publication supabase_realtime set (publish = 'insert')",
        "setup",
        "publication",
        "publishes no update and no delete",
        MEND,
    ),
    ("drop publication supabase_realtime", "setup", "publication", "there is no publication", MEND),
    (
        "drop policy onsembl_operators_read on realtime.messages",
        "setup",
        "policies",
        "private channels",
        "onsembl supabase setup",
    ),
    (
        "alter role {login} connection limit 9",
        "alter role {login} connection limit 15",
        "enough_connections",
        "9",
        "fewer",
    ),
    (
        "alter role {login} set default_transaction_read_only = on",
        "alter role {login} reset default_transaction_read_only",
        "writable",
        "read-only",
        "larger plan",
    ),
    (
        "revoke select on auth.mfa_factors from {login}",
        "grant select on auth.mfa_factors to {login}",
        "policies",
        "second factor",
        "grant select on auth.mfa_factors",
    ),
    (
        "alter table onsembl.audit disable row level security",
        "alter table onsembl.audit enable row level security",
        "policies",
        "onsembl.audit",
        "enable row level security",
    ),
    (
        "grant select (tokens_after) on onsembl.agents to authenticated",
        "revoke select (tokens_after) on onsembl.agents from authenticated",
        "grants",
        "browsers can read agents.tokens_after",
        "Revoke",
    ),
    (
        "grant insert on onsembl.commands to anon",
        "revoke insert on onsembl.commands from anon",
        "grants",
        "write",
        "revoke insert",
    ),
]


def test_each_fault_of_the_database_is_red_with_its_fix(project, subtests):
    """The finding names the fault and what to do."""
    for fault, mend, name, detail, fix in DATABASE_FAULTS:
        with subtests.test(fault=fault):
            project.execute(fault.format(login=project.login))
            try:
                finding = findings_of(project, name)[name]
                assert not finding.ok and detail in finding.detail and fix in finding.fix
            finally:
                if mend == "setup":
                    setup(project)
                else:
                    project.execute(mend.format(login=project.login))
            assert findings_of(project, name)[name].ok
    assert red(project) == {}


def test_wrong_keys_are_red_with_their_fix(project):
    """A key that the project rejects is named; the checks of the database pass."""
    found = red(project, SUPABASE_PUBLISHABLE_KEY="sb_publishable_wrong", SUPABASE_SECRET_KEY="wrong")
    assert set(found) == {"publishable key", "secret key", "signing keys", "round trip"} - green(found)
    assert "SUPABASE_SECRET_KEY" in found["secret key"].detail and "API settings" in found["secret key"].fix


def green(found: dict[str, Finding]) -> set[str]:
    """The signing keys are public: whether the gateway asks for a key depends on the project."""
    return {"signing keys"} - set(found)


def test_a_project_that_does_not_answer_is_red(project):
    """Without Auth and Realtime the checks of the database pass, and without the database the others."""
    found = red(project, SUPABASE_URL="http://127.0.0.1:1")
    assert set(found) == {"publishable key", "secret key", "signing keys", "round trip"}
    found = red(project, DATABASE_URL="postgresql://u:hidden@127.0.0.1:1/postgres")
    assert "publishable key" not in found and "not checked" in found["grants"].detail
    assert "paused" in found["database"].fix and "hidden" not in str(found)


def test_an_answer_that_is_not_supabases_is_red(project):
    """An address that answers otherwise is a finding, too."""
    found = red(project, SUPABASE_URL=project.environment["SUPABASE_URL"] + "/elsewhere", SUPABASE_ISSUER="https://[")
    assert {"publishable key", "signing keys", "round trip"} <= set(found)


def test_a_refused_socket_is_red(project):
    """A project with Realtime switched off is named as that, at once."""
    project.refuses_sockets = True
    try:
        found = red(project)
    finally:
        project.refuses_sockets = False
    assert set(found) == {"round trip"}
    assert "refused the socket" in found["round trip"].detail and "Enable Realtime" in found["round trip"].fix


def test_a_login_without_a_free_connection_is_red(project):
    """The finding of a pooler or a login that is full says how to free a connection."""
    project.execute(f"alter role {project.login} connection limit 0")
    try:
        assert "ONSEMBL_DATABASE_CONNECTIONS" in red(project)["database"].fix
        refused = setup(project)
        assert refused.returncode == 1 and refused.stderr.startswith("Error: ")
    finally:
        project.execute(f"alter role {project.login} connection limit 15")


def test_a_check_shows_others_nothing(project):
    """A check writes no row that an operator reads, and adds nobody to the operators."""
    counts = " union all ".join(f"select count(*) from onsembl.{table}" for table in EVERY_PUBLISHED)
    project.execute("create table if not exists public.seen (at timestamptz)")
    project.execute(
        "create or replace function public.see() returns trigger language plpgsql security definer"
        " as 'begin insert into public.seen values (now()); return null; end'"
    )
    others = [table for table in EVERY_PUBLISHED if table != PROBES]
    for table in others:
        project.execute(
            f"create trigger see after insert or update or delete on onsembl.{table} execute function public.see()"
        )
    try:
        assert red(project) == {}
        assert project.execute("select * from public.seen") == []
        assert {row["count"] for row in project.execute(counts)} == {0}
        listed = run_in_process("operator", "list", "--json", environment=project.environment)
        assert json.loads(listed.stdout) == []
    finally:
        project.execute(*(f"drop trigger see on onsembl.{table}" for table in others))


def test_a_project_of_private_channels_passes_every_check(postgres):
    """A project that allows private channels only goes live: the policy of setup lets operators join."""
    with supabase_project(postgres, private_only=True) as project:
        assert setup(project).returncode == 0
        assert red(project) == {}
        project.execute("drop policy onsembl_operators_read on realtime.messages")
        found = red(project)
        assert set(found) == {"policies", "round trip"}


def test_setup_makes_the_publication_that_is_missing(postgres):
    """A project without the publication is set up."""
    with supabase_project(postgres, publication=False) as project:
        result = setup(project)
        assert result.returncode == 0, result.stderr
        assert red(project) == {}


def test_a_publication_of_all_tables_is_an_error_with_its_mend(postgres):
    """Setup and up do not end in a traceback, and say which statements replace the publication."""
    with supabase_project(postgres, publication=False) as project:
        project.execute("create publication supabase_realtime for all tables")
        for options in ((), ("--json",)):
            refused = setup(project, *options)
            assert refused.returncode == 1 and "drop publication supabase_realtime" in refused.stderr
        project.execute("drop publication supabase_realtime")
        assert setup(project).returncode == 0
        project.execute("drop publication supabase_realtime", "create publication supabase_realtime for all tables")
        assert setup(project).returncode == 0, "every table is published already"
        assert red(project) == {}


def test_a_database_that_is_no_project_is_an_error_with_its_mend(empty_database_url, project):
    """Setup names the migration that failed."""
    refused = run_in_process(
        "supabase", "setup", environment={**project.environment, "DATABASE_URL": empty_database_url}
    )
    assert refused.returncode == 1 and "0001_core" in refused.stderr and "Fix: " in refused.stderr


@pytest.mark.parametrize(
    ("url", "red"),
    [
        ("postgresql://u:p@db.abc.supabase.co:5432/postgres", True),
        ("postgresql://u:p@db.abc.supabase.co:5432/postgres?sslmode=prefer", True),
        ("postgresql://u:p@db.abc.supabase.co:5432/postgres?sslmode=require", False),
        ("host=db.abc.supabase.co sslmode=verify-full", False),
        ("postgresql://u:p@localhost/postgres", False),
        ("postgresql:///postgres?host=/run/postgresql", False),
    ],
)
def test_an_address_without_encryption_is_red(url, red, monkeypatch):
    """A connection that leaves the machine must require encryption."""
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert (unprotected_address(url) is not None) is red
