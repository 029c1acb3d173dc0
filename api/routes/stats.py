"""The statistics of this instance for the dashboard."""

from __future__ import annotations

import math
import time

from prometheus_client import Histogram

from onsembl.api.database_state import DatabaseState
from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.metrics import buckets, resident_bytes
from onsembl.api.routes.metrics import count_unfinished
from onsembl.api.routes.stats_models import (
    DatabaseStatistics,
    Distribution,
    PoolStatistics,
    QueueStatistics,
    Statistics,
    UnfinishedCommands,
)
from onsembl.sql.stats import Unfinished


async def read_statistics(call: Call[NoBody]) -> Statistics:
    services = call.services
    hub, metrics = services.hub, services.metrics
    realtime = services.builtin.realtime if services.builtin is not None else None
    unfinished = await count_unfinished(services)
    return Statistics(
        instance_id=services.presence.instance_id,
        at=time.time(),
        agents=len(hub.links),
        viewers=len(hub.viewers),
        realtime_subscribers=len(realtime.feed.subscribers) if realtime is not None else None,
        terminal_bytes=hub.received,
        deliveries=hub.delivered,
        archive_lag_bytes=hub.archiver.budget.used,
        relay=_distribution(metrics.relay),
        loop_lag=_distribution(metrics.loop_lag.histogram),
        commands_ended=metrics.ended_by_state(),
        commands=_commands(unfinished) if unfinished is not None else None,
        pools=[
            PoolStatistics(name=pool.name, size=pool.size, in_use=max(0, pool.size - pool.idle), waiting=pool.waiting)
            for pool in metrics.pools.read()
        ],
        database=_database(services.database),
        memory_bytes=resident_bytes(),
        cpu_seconds=time.process_time(),
    )


def _database(state: DatabaseState) -> DatabaseStatistics | None:
    if state.size is None:
        return None
    return DatabaseStatistics(size=state.size, limit=state.limit, read_only=state.read_only)


def _distribution(histogram: Histogram) -> Distribution:
    counts = buckets(histogram)
    return Distribution(bounds=[bound for bound in counts if bound != math.inf], counts=list(counts.values()))


def _commands(unfinished: Unfinished) -> UnfinishedCommands:
    return UnfinishedCommands(
        queued=unfinished.states["queued"],
        dispatched=unfinished.states["dispatched"],
        running=unfinished.states["running"],
        queue=[
            QueueStatistics(priority=priority, depth=waiting.depth, oldest=waiting.oldest)
            for priority, waiting in sorted(unfinished.waiting.items())
        ],
    )


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/statistics",
        old_paths=("/v1/figures",),
        handler=read_statistics,
        summary="Read the statistics of this instance",
        answer=Statistics,
    ),
]
