"""Starts the embedded Postgres again whenever it ends."""

from __future__ import annotations

import asyncio
import logging

from onsembl.cli.errors import CliError
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.restarts import RestartPolicy
from onsembl.sql.supervision import Failed, supervise

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often it is looked whether Postgres runs, and how large its log is."""
FULL_BYTES = 32 * 1024 * 1024
"""With less free space, Postgres may lack room for the two files of its log (16 MiB each) that its start may need."""


async def keep_running(postgres: EmbeddedPostgres, policy: RestartPolicy | None = None) -> None:
    """Start the server again whenever it ends, until cancelled. The server runs already.

    While the disk is full, the start is repeated until there is room. Raises GaveUp when restarts do not help.
    """

    async def run() -> None:
        if not postgres.running:
            try:
                # The thread outlives a cancellation; the event loop waits for it when it is closed.
                await asyncio.to_thread(postgres.start)
            except CliError as error:
                raise Failed(error.message) from error
            logger.warning("Postgres runs again", extra={"action": "postgres_restarted", "pid": postgres.pid})
        while postgres.running:
            _rotate(postgres)
            await asyncio.sleep(LOOK_SECONDS)
        raise Failed(f"it has ended. The end of its log:\n{postgres.log.tail()}")

    await supervise("Postgres", run, policy, lambda _error: postgres.free_bytes >= FULL_BYTES)


def _rotate(postgres: EmbeddedPostgres) -> None:
    try:
        postgres.log.rotate()
    except OSError as error:
        logger.warning("The log of Postgres was emptied without a copy: %s", error, extra={"action": "log_not_kept"})
