"""The database that a command uses: the one that is given, or the embedded one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
import psycopg

from onsembl.cli.errors import CliError
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.cli.server.hosted_project import require_session_database
from onsembl.sql.database import connect

database_url_option = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    help="A Postgres to use instead of the embedded one. Prefer the environment variable: other users see arguments.",
)

database_wait_option = click.option(
    "--database-wait",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the database to respond.",
)
RETRY_SECONDS = 0.25


def running_database(database_url: str | None, data_dir: Path, wait: float = 0.0) -> str:
    """The URL of a database that responds within `wait` seconds. Raises CliError."""
    if database_url is None:
        if not (data_dir / "postgres" / "postmaster.pid").exists():
            raise CliError(
                f"No Postgres runs in {data_dir}. Start the control center first (`onsembl up`), or set DATABASE_URL."
            )
        database_url = EmbeddedPostgres(data_dir).url()
    require_session_database(database_url)
    require_database(database_url, wait)
    return database_url


def require_database(url: str, wait: float = 0.0) -> None:
    """Return when the database responds.

    Raises CliError after `wait` seconds, and at once for an error that waiting does not cure, such as a wrong
    password. The text does not contain the password.
    """

    async def attempt() -> None:
        await (await connect(url)).close()

    deadline = time.monotonic() + wait
    reported = False
    while True:
        try:
            asyncio.run(attempt())
        except psycopg.OperationalError as error:
            # An error from Postgres itself does not pass, except while it starts or stops.
            transient = error.sqlstate is None or isinstance(error, psycopg.errors.CannotConnectNow)
            if not transient or time.monotonic() >= deadline:
                raise not_responding(error) from error
            if not reported:
                click.echo(f"Waiting for the database: {str(error).strip()}", err=True)
            reported = True
            time.sleep(RETRY_SECONDS)
        else:
            return


def not_responding(error: psycopg.OperationalError) -> CliError:
    """The error for a database that cannot be reached."""
    return CliError(f"The database is not responding: {str(error).strip()}")
