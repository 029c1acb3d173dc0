"""The size of the database, and whether it takes changes: a hosted project that is full becomes read-only."""

from __future__ import annotations

import asyncio
import logging

from onsembl.sql import alerts, stats
from onsembl.sql.database import DATABASE_ERRORS, Pool

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
ALERT_SHARE = 0.8
"""The part of the limit from which the size is an alert."""
ALERT_DAYS = 7


class DatabaseState:
    """What the last look found. `size` is in bytes, and None before the first look; so is the `limit`, without one."""

    def __init__(self, pool: Pool, limit: int | None) -> None:
        self._pool = pool
        self.limit = limit
        self.size: int | None = None
        self.read_only = False

    async def watch(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            try:
                await self.look()
            except DATABASE_ERRORS as error:
                logger.warning(
                    "The database's size could not be read: %s", error, extra={"action": "database_state_failed"}
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Read the state, and raise the alert when it is due. Raises the errors of the database."""
        async with self._pool.connection() as conn:
            found = await stats.database(conn)
            if found.read_only != self.read_only:
                text = "The database is read-only" if found.read_only else "The database takes changes again"
                logger.warning(text, extra={"action": "database_read_only", "read_only": found.read_only})
            self.size, self.read_only = found.size, found.read_only
            if self.limit is not None and found.size >= ALERT_SHARE * self.limit and not found.read_only:
                await alerts.raise_after_days(conn, "database_nearly_full", _text(found.size, self.limit), ALERT_DAYS)


def _text(size: int, limit: int) -> str:
    return (
        f"The database holds {size / 1e6:,.0f} MB of {limit / 1e6:,.0f} MB. When it is full, the project becomes "
        "read-only: delete recordings (onsembl recordings, --archive-days) or take a larger plan, and set "
        "ONSEMBL_DATABASE_LIMIT_MB to its size."
    )
