"""Which database a command works on: the one that is named, or the embedded one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
import psycopg

from onsembl.cli.errors import StartError
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.cli.server.hosted_project import require_session_database
from onsembl.sql.database import connect

database_url_option = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    help="A Postgres to use instead of the embedded one. Better in the environment: arguments can be seen by others.",
)

database_wait_option = click.option(
    "--database-wait",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds to wait for a database that does not answer yet.",
)
AGAIN_SECONDS = 0.25


def running_database(database_url: str | None, data_dir: Path, wait: float = 0.0) -> str:
    """The URL of a database that runs already, or does within `wait` seconds. Raises StartError."""
    if database_url is None:
        if not (data_dir / "postgres" / "postmaster.pid").exists():
            raise StartError(
                f"No Postgres runs on {data_dir}. Start the control center first (`onsembl up`), or set DATABASE_URL."
            )
        database_url = EmbeddedPostgres(data_dir).url()
    require_session_database(database_url)
    require_database(database_url, wait)
    return database_url


def require_database(url: str, wait: float = 0.0) -> None:
    """Return when the database answers. Raises StartError, without the password, when it does not within `wait`
    seconds, and at once where waiting is of no use."""

    async def attempt() -> None:
        await (await connect(url)).close()

    deadline = time.monotonic() + wait
    waits = False
    while True:
        try:
            asyncio.run(attempt())
        except psycopg.OperationalError as error:
            # What Postgres itself says is of no passing nature, but that it is starting or stopping just now.
            passing = error.sqlstate is None or isinstance(error, psycopg.errors.CannotConnectNow)
            if not passing or time.monotonic() >= deadline:
                raise unanswered(error) from error
            if not waits:
                click.echo(f"Waiting for the database: {str(error).strip()}", err=True)
            waits = True
            time.sleep(AGAIN_SECONDS)
        else:
            return


def unanswered(error: psycopg.OperationalError) -> StartError:
    """What a person is told of it."""
    return StartError(f"The database does not answer: {str(error).strip()}")
