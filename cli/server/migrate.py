"""`onsembl migrate`: apply the missing migrations to a database."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import click

from onsembl.cli.errors import CliError
from onsembl.cli.server.data_folder import data_dir_option
from onsembl.cli.server.database_url import database_url_option, running_database
from onsembl.sql.migrate import MigrationError
from onsembl.sql.migrate import migrate as apply


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the applied migrations as JSON.")
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
        click.echo(json.dumps({"applied": applied}))
    else:
        click.echo("\n".join(f"Applied {name}" for name in applied) or "Nothing to apply.")
