"""`onsembl migrate`: apply the missing migrations to a database."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_lines
from onsembl.cli.server.database_url import running_database
from onsembl.cli.server.options import data_dir_option, database_url_option
from onsembl.sql.migrate import MigrationError
from onsembl.sql.migrate import migrate as apply


@click.command()
@json_option
@database_url_option
@data_dir_option
def migrate(as_json: bool, database_url: str | None, data_dir: Path) -> None:
    """Apply missing migrations to the database. `onsembl up` does this at its start."""
    url = running_database(database_url, data_dir)
    try:
        applied = asyncio.run(apply(url, builtin_supabase="SUPABASE_URL" not in os.environ))
    except MigrationError as error:
        raise CliError(str(error)) from error
    if as_json:
        print_json({"applied": applied})
    else:
        print_lines("\n".join(f"Applied {name}" for name in applied) or "Nothing to apply.")
