"""Who was turned away, for the audit log: those that are alike are counted and written together.

A row for each would let anyone fill the disk. So one is written for each door, reason, actor and address every few
seconds, with how many there were, and all that go beyond so many kinds are counted together.
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
KINDS = 500
ANYBODY = Actor("anonymous")
OTHERS = ("others", "various", ANYBODY)


class Refusals:
    """Counts in memory; `write_for_ever` brings the counts to the log, and `write` what is left at the end."""

    def __init__(self, pool: Pool, refused: Metric) -> None:
        self._pool = pool
        self._refused = refused
        self._counts: Counter[tuple[str, str, Actor]] = Counter()

    def note(self, door: str, reason: str, address: str, actor: Actor = ANYBODY) -> None:
        """Somebody at `address` was turned away; `actor`, where it is known who."""
        self._refused.labels(door).inc()
        key = (door, reason, replace(actor, address=network_of(address)))
        if key not in self._counts and len(self._counts) >= KINDS:
            key = OTHERS
        self._counts[key] += 1

    async def write_for_ever(self) -> None:
        """Every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the counts; they are kept for the next time when the database is away."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            async with self._pool.connection() as conn:
                for (door, reason, actor), count in counts.items():
                    await audit.write(conn, _event(door, reason, actor, count))
        except (psycopg.Error, PoolTimeout) as error:
            self._counts += counts
            logger.warning("Refusals could not be logged: %s", error, extra={"action": "refusals_not_written"})


def _event(door: str, reason: str, actor: Actor, count: int) -> audit.Event:
    return audit.Event(
        actor=actor,
        action="request.refused",
        target_kind="door",
        target_id=door,
        outcome="refused",
        detail={"reason": reason, "count": count},
    )
