"""The hosted Supabase project that the environment variables name, if any."""

from __future__ import annotations

import os

from onsembl.cli.errors import CliError
from onsembl.realtime.hosted import HostedProject, IncompleteProject, TransactionPooler, reject_transaction_pooler


def hosted_project() -> HostedProject | None:
    """The project; None without SUPABASE_URL. Raises CliError when a variable is missing."""
    try:
        return HostedProject.from_environment(os.environ)
    except IncompleteProject as error:
        raise CliError(str(error)) from error


def require_session_database(url: str) -> None:
    """Raises CliError for the URL of a transaction pooler, through which LISTEN does not work."""
    try:
        reject_transaction_pooler(url)
    except TransactionPooler as error:
        raise CliError(str(error)) from error
