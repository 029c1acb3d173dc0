"""The database that a command uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from onsembl.cli.errors import CliError
from onsembl.cli.server.database_url import require_database, running_database


def test_a_transaction_pooler_is_rejected_without_a_connection(tmp_path: Path) -> None:
    """The error names the reason, not the password."""
    with pytest.raises(CliError, match="transaction pooler") as caught:
        running_database("postgresql://u:hunter2@aws-0-eu.pooler.supabase.com:6543/postgres", tmp_path)
    assert "hunter2" not in caught.value.message


def test_the_error_for_an_unreachable_database_has_no_password() -> None:
    """The error says that the database is not responding."""
    with pytest.raises(CliError, match="is not responding") as caught:
        require_database("postgresql://u:hunter2@127.0.0.1:9/postgres")
    assert "hunter2" not in caught.value.message


def test_the_error_without_a_database_says_how_to_start_one(tmp_path: Path) -> None:
    """The error names `onsembl up`."""
    with pytest.raises(CliError, match="onsembl up"):
        running_database(None, tmp_path)
