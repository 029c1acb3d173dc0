"""Values that could not be written as JSON: each is counted, and each place is an alert for the operators.

The alerts are written every few seconds, and each once: until an operator acknowledges it, and at most once an hour.
"""

from __future__ import annotations

import asyncio
import logging
import time

from prometheus_client import Counter

from onsembl.sql import alerts
from onsembl.sql.database import DATABASE_ERRORS, Pool

logger = logging.getLogger(__name__)

WRITE_SECONDS = 5.0
REPEAT_SECONDS = 3600.0
MAX_PLACES = 100
"""Different places that are remembered; a further one is counted only."""


class UnreadableValues:
    """Counts unreadable values; `write_forever` raises the alerts, and `write` the rest when the process stops."""

    def __init__(self, pool: Pool, counted: Counter) -> None:
        self._pool = pool
        self._counted = counted
        self._writing = asyncio.Lock()
        self._new: dict[str, str] = {}
        """The endpoint of each fault whose alert is not written yet."""
        self._alerted: dict[str, float] = {}

    def record(self, endpoint: str, fault: str) -> None:
        """Count a value that an answer of this endpoint could not show; `fault` says where it is, and what it is."""
        self._counted.labels(endpoint).inc()
        now = time.monotonic()
        for known, since in list(self._alerted.items()):
            if now - since > REPEAT_SECONDS:
                del self._alerted[known]
        if fault not in self._alerted and len(self._alerted) < MAX_PLACES:
            self._alerted[fault] = now
            self._new[fault] = endpoint

    async def write_forever(self) -> None:
        """Write the alerts every `WRITE_SECONDS`, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the alerts, after a write that is under way; while the database is unavailable they are kept for the
        next write."""
        async with self._writing:
            new = dict(self._new)
            if not new:
                return
            try:
                async with self._pool.connection() as conn:
                    for fault, endpoint in new.items():
                        await alerts.raise_once(conn, "unreadable_value", f"{endpoint} cannot show {fault}.")
            except DATABASE_ERRORS as error:
                logger.warning(
                    "Alerts of unreadable values could not be written: %s",
                    error,
                    extra={"action": "alerts_not_written"},
                )
                return
            for fault in new:
                del self._new[fault]
