"""The statistics of this process, and those that the other instances answer with."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable

from prometheus_client import Histogram
from psycopg.rows import DictRow

from onsembl.api.http.dashboard import version
from onsembl.api.instances.relay_connection import RelayFailed
from onsembl.api.metrics import buckets, resident_bytes
from onsembl.api.reason import reason_of
from onsembl.api.services import Services
from onsembl.protocol.ids import Epoch, InstanceId
from onsembl.protocol.relay_messages import OwnStatistics
from onsembl.protocol.statistics import Distribution, PoolStatistics, ProcessStatistics
from onsembl.sql.instances import Owner

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 1.0
"""How long another instance may take to answer; the statistics of one that is slower are left out."""


def own_statistics(services: Services) -> ProcessStatistics:
    """The statistics of this process."""
    hub, metrics = services.hub, services.metrics
    realtime = services.builtin.realtime if services.builtin is not None else None
    return ProcessStatistics(
        agents=len(hub.links),
        viewers=len(hub.viewers),
        realtime_subscribers=len(realtime.feed.subscribers) if realtime is not None else None,
        terminal_bytes=hub.received,
        deliveries=hub.delivered,
        archive_lag_bytes=hub.archiver.budget.used,
        relay=_distribution(metrics.relay),
        loop_lag=_distribution(metrics.loop_lag.histogram),
        commands_ended=metrics.ended_by_state(),
        pools=[
            PoolStatistics(name=pool.name, size=pool.size, in_use=max(0, pool.size - pool.idle), waiting=pool.waiting)
            for pool in metrics.pools.read()
        ],
        memory_bytes=resident_bytes(),
        cpu_seconds=time.process_time(),
    )


async def all_statistics(services: Services, rows: Iterable[DictRow]) -> dict[InstanceId, OwnStatistics]:
    """The statistics of this instance, and of those among the `rows` of `onsembl.instances` that are alive and
    answer in time."""
    own = services.presence.instance_id
    others = [row for row in rows if row["alive"] and row["address"] != services.settings.address]
    answers = await asyncio.gather(
        *(_ask(services, Owner(InstanceId(row["id"]), row["address"], Epoch(0))) for row in others if row["id"] != own)
    )
    return {own: OwnStatistics(release=version(), statistics=own_statistics(services))} | {
        instance_id: answer for instance_id, answer in answers if answer is not None
    }


async def _ask(services: Services, instance: Owner) -> tuple[InstanceId, OwnStatistics | None]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return instance.instance_id, await services.relays.statistics(instance)
    except (RelayFailed, TimeoutError) as error:
        logger.warning(
            "The statistics of %s are missing: %s",
            instance.address,
            reason_of(error),
            extra={"action": "statistics_missing"},
        )
        return instance.instance_id, None


def _distribution(histogram: Histogram) -> Distribution:
    counts = buckets(histogram)
    return Distribution(bounds=[bound for bound in counts if bound != math.inf], counts=list(counts.values()))
