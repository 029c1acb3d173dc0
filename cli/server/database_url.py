"""The database that a command uses: the one that is given, or the embedded one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg

from onsembl.cli.errors import CliError
from onsembl.cli.hints import command_line
from onsembl.cli.output import print_line
from onsembl.cli.server.hosted_project import require_session_database
from onsembl.sql import auth_project
from onsembl.sql.database import CONNECT_SECONDS, PromptConnection, connect

RETRY_SECONDS = 0.25


def running_database(database_url: str | None, data_dir: Path, wait: float = 0.0) -> str:
    """The URL of a database that responds within `wait` seconds. Raises CliError."""
    if database_url is None:
        if not (data_dir / "postgres" / "postmaster.pid").exists():
            raise CliError(
                f"No Postgres runs in {data_dir}. Start the control center first ({command_line('up')}), "
                "or set DATABASE_URL."
            )
        # With a URL, as a worker that starts for a job has one, the embedded Postgres need not be imported.
        from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

        database_url = EmbeddedPostgres(data_dir).url()
    require_session_database(database_url)
    require_database(database_url, wait)
    return database_url


def local_publishable_key(data_dir: Path) -> str | None:
    """The publishable key of the control center whose Postgres runs in `data_dir`; None if it cannot be read."""

    async def read(url: str) -> str | None:
        async with await connect(url) as conn:
            return await auth_project.publishable_key(conn)

    try:
        return asyncio.run(read(running_database(None, data_dir)))
    except (CliError, OSError, psycopg.Error):  # the database is another user's, or does not run
        return None


def require_database(url: str, wait: float = 0.0) -> None:
    """Return when the database responds.

    Raises CliError after `wait` seconds, and at once for an error that waiting does not cure, such as a wrong
    password. The text does not contain the password.
    """

    async def attempt() -> None:
        # Without the settings of our connections, which would stay in a session of a transaction pooler.
        await (await PromptConnection.connect(url, connect_timeout=CONNECT_SECONDS)).close()

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
                print_line(f"Waiting for the database: {str(error).strip()}", err=True)
            reported = True
            time.sleep(RETRY_SECONDS)
        else:
            return


def not_responding(error: psycopg.OperationalError) -> CliError:
    """The error for a database that cannot be reached."""
    return CliError(f"The database is not responding: {str(error).strip()}")
