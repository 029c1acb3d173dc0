"""The figures of this instance for the dashboard: what `/metrics` shows, in the page's own form."""

from __future__ import annotations

import time
from collections import defaultdict

from prometheus_client import CollectorRegistry

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.routes.metrics import read_state
from onsembl.api.routes.stats_models import (
    Distribution,
    PoolStatistics,
    QueueStatistics,
    Statistics,
    UnfinishedCommands,
)


class Readings:
    """The values that a registry has now, by the names that Prometheus knows them by."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._values: defaultdict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for metric in registry.collect():
            for sample in metric.samples:
                self._values[sample.name].append((sample.labels, sample.value))

    def one(self, name: str) -> float | None:
        """The value of one without labels; None when nobody measures it here."""
        return self._values[name][0][1] if name in self._values else None

    def count(self, name: str) -> int:
        """As `one`, of what is always measured."""
        value = self.one(name)
        assert value is not None, f"{name} is not measured"
        return int(value)

    def by(self, label: str, name: str) -> dict[str, float]:
        """The values of one with a single label, in the order in which they were measured first."""
        return {labels[label]: value for labels, value in self._values.get(name, [])}

    def distribution(self, name: str) -> Distribution:
        """A histogram without labels of its own."""
        counts = self.by("le", f"{name}_bucket")
        return Distribution(
            bounds=[float(bound) for bound in counts if bound != "+Inf"],
            counts=[int(count) for count in counts.values()],
        )


async def read_statistics(call: Call[NoBody]) -> Statistics:
    services = call.services
    await read_state(services)
    readings = Readings(services.metrics.registry)
    subscribers = readings.one("onsembl_realtime_subscribers")
    memory = readings.one("process_resident_memory_bytes")
    return Statistics(
        instance_id=services.presence.instance_id,
        at=time.time(),
        agents=readings.count("onsembl_agents_connected"),
        viewers=readings.count("onsembl_viewers_connected"),
        realtime_subscribers=int(subscribers) if subscribers is not None else None,
        terminal_bytes=readings.count("onsembl_terminal_bytes_total"),
        deliveries=readings.count("onsembl_deliveries_total"),
        archive_lag_bytes=readings.count("onsembl_archive_lag_bytes"),
        relay=readings.distribution("onsembl_relay_latency_seconds"),
        loop_lag=readings.distribution("onsembl_event_loop_lag_seconds"),
        commands_ended={name: int(n) for name, n in readings.by("state", "onsembl_commands_ended_total").items()},
        commands=_commands(readings),
        pools=_pools(readings),
        memory_bytes=int(memory) if memory is not None else None,
        cpu_seconds=readings.one("process_cpu_seconds_total"),
    )


def _commands(readings: Readings) -> UnfinishedCommands | None:
    states = readings.by("state", "onsembl_commands")
    if not states:
        return None
    oldest = readings.by("priority", "onsembl_queue_oldest_seconds")
    return UnfinishedCommands(
        queued=int(states["queued"]),
        dispatched=int(states["dispatched"]),
        running=int(states["running"]),
        queue=[
            QueueStatistics(priority=int(priority), depth=int(depth), oldest=oldest[priority])
            for priority, depth in readings.by("priority", "onsembl_queue_depth").items()
        ],
    )


def _pools(readings: Readings) -> list[PoolStatistics]:
    idle = readings.by("pool", "onsembl_pool_idle")
    waiting = readings.by("pool", "onsembl_pool_waiting")
    return [
        PoolStatistics(name=name, size=int(size), in_use=max(0, int(size - idle[name])), waiting=int(waiting[name]))
        for name, size in readings.by("pool", "onsembl_pool_connections").items()
    ]


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/figures",
        handler=read_statistics,
        summary="This instance's figures",
        answer=Statistics,
    ),
]
