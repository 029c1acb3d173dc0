"""The Supabase project that the environment names, if it names one."""

from __future__ import annotations

import os

from onsembl.cli.errors import StartError
from onsembl.realtime.hosted import HostedProject, IncompleteProject, TransactionPooler, reject_transaction_pooler


def hosted_project() -> HostedProject | None:
    """Raises StartError when only part of it is set."""
    try:
        return HostedProject.from_environment(os.environ)
    except IncompleteProject as error:
        raise StartError(str(error)) from error


def require_session_database(url: str) -> None:
    """Raises StartError for the address of a pooler that LISTEN does not work through."""
    try:
        reject_transaction_pooler(url)
    except TransactionPooler as error:
        raise StartError(str(error)) from error
