"""Which database a command works on."""

from __future__ import annotations

from pathlib import Path

import pytest

from onsembl.cli.errors import CliError
from onsembl.cli.server.database_url import require_database, running_database


def test_a_transaction_pooler_is_refused_before_it_is_tried(tmp_path: Path) -> None:
    """A worker needs LISTEN like the server. The reason is named, and the password is not."""
    with pytest.raises(CliError, match="transaction pooler") as caught:
        running_database("postgresql://u:hunter2@aws-0-eu.pooler.supabase.com:6543/postgres", tmp_path)
    assert "hunter2" not in caught.value.message


def test_a_database_that_does_not_answer_is_told_without_the_password() -> None:
    """One sentence for a person."""
    with pytest.raises(CliError, match="is not responding") as caught:
        require_database("postgresql://u:hunter2@127.0.0.1:9/postgres")
    assert "hunter2" not in caught.value.message


def test_without_a_running_one_it_says_how_to_start(tmp_path: Path) -> None:
    """`onsembl up`, or DATABASE_URL."""
    with pytest.raises(CliError, match="onsembl up"):
        running_database(None, tmp_path)
