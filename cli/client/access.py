"""Which way a command takes that can use the database or the REST API: `onsembl stop` and `onsembl audit`."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from onsembl.cli.client.rest_client import signed_in, stored_session
from onsembl.cli.errors import CliError
from onsembl.cli.hints import command_line, install_hint


def uses_rest(server: str | None, database_url: str | None, data_dir: Path) -> bool:
    """Whether to use the REST API, as the signed-in operator: not on the control center's own machine.

    Raises CliError when neither way is open, because nobody is signed in and this is an installation without a server.
    """
    if database_url is None and signed_in(server):
        return not _is_local(server, data_dir)
    try:
        import_module("psycopg")
    except ModuleNotFoundError as error:
        sign_in = command_line("login", "--server", server or "https://…")
        raise CliError(
            f"Sign in first: {sign_in}. To use the database on the control center's machine, {install_hint('server')}."
        ) from error
    return False


def _is_local(server: str | None, data_dir: Path) -> bool:
    """Whether the signed-in control center runs on this machine: both have the same publishable key."""
    session = stored_session()
    if session is None or os.environ.get("ONSEMBL_TOKEN") or server not in (None, session.server):
        return False
    if not (data_dir / "postgres" / "postmaster.pid").exists():
        return False
    try:
        from onsembl.cli.server.database_url import local_publishable_key
    except ModuleNotFoundError:  # an installation without a server
        return False
    return local_publishable_key(data_dir) == session.key
