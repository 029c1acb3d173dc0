"""Rejected requests and sockets, counted and written to the audit log.

A row for each rejection would let anyone fill the disk. Rejections of the same endpoint, reason, actor and address are
therefore counted in memory and written as one row every few seconds. A flood of different rejections is counted as one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace

import psycopg
from prometheus_client import Counter as Metric
from psycopg_pool import PoolTimeout

from onsembl.protocol.rates import network_of
from onsembl.sql import audit
from onsembl.sql.audit import Actor
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)

WRITE_SECONDS = 5.0
MAX_KINDS = 500
"""Different rejections that are counted apart between two writes."""
ANONYMOUS = Actor("anonymous")
OTHERS = ("others", "various", ANONYMOUS)
"""The row for rejections beyond `MAX_KINDS`."""


class Rejections:
    """Counts rejections in memory; `write_forever` writes the counts, and `write` the rest when the process stops."""

    def __init__(self, pool: Pool, rejected: Metric) -> None:
        self._pool = pool
        self._rejected = rejected
        self._counts: Counter[tuple[str, str, Actor]] = Counter()

    def record(self, endpoint: str, reason: str, address: str, actor: Actor = ANONYMOUS) -> None:
        """Count a rejection of a request from `address`; `actor` names the agent or operator if it is known."""
        self._rejected.labels(endpoint).inc()
        key = (endpoint, reason, replace(actor, address=network_of(address)))
        if key not in self._counts and len(self._counts) >= MAX_KINDS:
            key = OTHERS
        self._counts[key] += 1

    async def write_forever(self) -> None:
        """Write the counts every `WRITE_SECONDS`, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the counts; while the database is unavailable they are kept for the next write."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            async with self._pool.connection() as conn:
                for (endpoint, reason, actor), count in counts.items():
                    await audit.write(conn, _event(endpoint, reason, actor, count))
        except (psycopg.Error, PoolTimeout) as error:
            self._counts += counts
            logger.warning(
                "Rejections could not be written to the audit log: %s",
                error,
                extra={"action": "rejections_not_written"},
            )


def _event(endpoint: str, reason: str, actor: Actor, count: int) -> audit.Event:
    return audit.Event(
        actor=actor,
        action="request.refused",
        target_kind="door",
        target_id=endpoint,
        outcome="refused",
        detail={"reason": reason, "count": count},
    )
