"""Which database a command works on: the one that is named, or the embedded one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import psycopg

from onsembl.cli.embedded_postgres import EmbeddedPostgres
from onsembl.cli.errors import StartError
from onsembl.cli.hosted_project import require_session_database
from onsembl.sql.database import connect

database_url_option = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    help="A Postgres to use instead of the embedded one. Better in the environment: arguments can be seen by others.",
)


def running_database(database_url: str | None, data_dir: Path) -> str:
    """The URL of a database that runs already. Raises StartError."""
    if database_url is None:
        if not (data_dir / "postgres" / "postmaster.pid").exists():
            raise StartError(
                f"No Postgres runs on {data_dir}. Start the control center first (`onsembl up`), or set DATABASE_URL."
            )
        database_url = EmbeddedPostgres(data_dir).url()
    require_session_database(database_url)
    require_database(database_url)
    return database_url


def require_database(url: str) -> None:
    """Raises StartError, without the password, when the database does not answer."""

    async def attempt() -> None:
        await (await connect(url)).close()

    try:
        asyncio.run(attempt())
    except psycopg.OperationalError as error:
        raise StartError(f"The database does not answer: {str(error).strip()}") from error
