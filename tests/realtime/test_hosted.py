"""The settings of a hosted project."""

from __future__ import annotations

import pytest

from onsembl.realtime.hosted import HostedProject, IncompleteProject, TransactionPooler, reject_transaction_pooler

WHOLE = {
    "SUPABASE_URL": "https://abc.supabase.co/",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x",
    "SUPABASE_SECRET_KEY": "sb_secret_x",
}


def test_reads_the_project_from_the_environment() -> None:
    """The issuer is derived from the project's address unless SUPABASE_ISSUER is set."""
    project = HostedProject.from_environment(WHOLE)
    assert project == HostedProject(
        url="https://abc.supabase.co",
        publishable_key="sb_publishable_x",
        secret_key="sb_secret_x",
        issuer="https://abc.supabase.co/auth/v1",
    )
    elsewhere = HostedProject.from_environment({**WHOLE, "SUPABASE_ISSUER": "https://auth.example/"})
    assert elsewhere is not None
    assert elsewhere.issuer == "https://auth.example"


def test_there_is_no_project_without_an_address() -> None:
    """Without SUPABASE_URL there is no hosted project, and the built-in Supabase serves."""
    assert HostedProject.from_environment({}) is None
    assert HostedProject.from_environment({**WHOLE, "SUPABASE_URL": " "}) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"SUPABASE_SECRET_KEY": ""}, "SUPABASE_SECRET_KEY"),
        ({"SUPABASE_PUBLISHABLE_KEY": ""}, "SUPABASE_PUBLISHABLE_KEY"),
        ({"SUPABASE_URL": "abc.supabase.co"}, "SUPABASE_URL"),
        ({"SUPABASE_PUBLISHABLE_KEY": "sb_secret_x"}, "Every browser gets"),
    ],
)
def test_a_missing_or_misplaced_variable_is_named(change: dict[str, str], named: str) -> None:
    """The error names the variable; a secret key is not accepted as the key for browsers."""
    with pytest.raises(IncompleteProject, match=named):
        HostedProject.from_environment({**WHOLE, **change})


def test_the_secret_key_is_not_shown() -> None:
    """The text form of a project, as in a log, does not hold the secret key."""
    assert "sb_secret_x" not in repr(HostedProject.from_environment(WHOLE))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres.abc:pw@aws-0-eu.pooler.supabase.com:6543/postgres",
        "postgres://u:p@h:6543",
        "postgresql://u:p@db.abc.supabase.co:6543/postgres?sslmode=require",
        "postgresql://u:p@h1:5432,h2:6543/postgres",
        "postgresql://u:p@[::1]:6543/postgres",
        "postgresql://u:p@h:5432/postgres?pgbouncer=true",
        "postgresql:///postgres?host=h&port=6543",
        "host=h port=6543 dbname=postgres",
        "host=h port='6543'",
    ],
)
def test_a_transaction_pooler_is_rejected_with_the_reason(url: str) -> None:
    """A transaction pooler gives its connections away after each transaction, and the error says so."""
    with pytest.raises(TransactionPooler, match=r"LISTEN.*session pooler"):
        reject_transaction_pooler(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres.abc:pw@aws-0-eu.pooler.supabase.com:5432/postgres",
        "postgresql://postgres:6543@db.abc.supabase.co:5432/postgres",
        "postgresql://u:p@h/postgres6543",
        "postgresql://u:p@h:5432/postgres?pgbouncer=false",
        "postgresql://u:p@/postgres?host=/tmp/s:6543x",
        "host=h dbname=postgres",
        "host=h port=5432 password='port=6543'",
    ],
)
def test_other_addresses_pass(url: str) -> None:
    """Direct connections and session poolers are accepted, even with 6543 in a password or a name."""
    reject_transaction_pooler(url)
