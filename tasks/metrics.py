"""What a worker, alone or beside the API, counts for Prometheus: its jobs, its event loop, its pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onsembl.sql.database import Pool

LAG_SECONDS = 0.5
"""How often the event loop is asked how late it is."""
FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Bounds, in seconds, of what takes well below a millisecond when all is well."""
SLOW = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)
"""Of what goes through the database, or waits for its turn."""


def new_registry() -> CollectorRegistry:
    """One process's metrics: of the process itself, to begin with."""
    registry = CollectorRegistry()
    PlatformCollector(registry=registry)
    ProcessCollector(registry=registry)
    return registry


@dataclass(frozen=True, slots=True)
class PoolState:
    """The number of connections of a pool, of those that are idle, and of the requests that wait for one."""

    name: str
    size: int
    idle: int
    waiting: int


class Pools(Collector):
    """The state of connection pools, read when it is asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._pools: dict[str, Pool] = {}
        registry.register(self)

    def watch(self, name: str, pool: Pool) -> None:
        """Show this pool, under this name."""
        self._pools[name] = pool

    def read(self) -> list[PoolState]:
        """The present state of each pool."""
        states: list[PoolState] = []
        for name, pool in self._pools.items():
            stats = pool.get_stats()
            size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
            states.append(PoolState(name, size, idle, stats.get("requests_waiting", 0)))
        return states

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client asks."""
        size = GaugeMetricFamily("onsembl_pool_connections", "Connections of the pool.", labels=["pool"])
        idle = GaugeMetricFamily("onsembl_pool_idle", "Those that nobody uses.", labels=["pool"])
        waiting = GaugeMetricFamily("onsembl_pool_waiting", "Who waits for a connection.", labels=["pool"])
        taken = CounterMetricFamily("onsembl_pool_requests", "Connections taken.", labels=["pool"])
        waited = CounterMetricFamily("onsembl_pool_wait_seconds", "Waiting for a connection.", labels=["pool"])
        failed = CounterMetricFamily("onsembl_pool_errors", "Who waited in vain.", labels=["pool"])
        for name, pool in self._pools.items():
            stats = pool.get_stats()
            size.add_metric([name], stats.get("pool_size", 0))
            idle.add_metric([name], stats.get("pool_available", 0))
            waiting.add_metric([name], stats.get("requests_waiting", 0))
            taken.add_metric([name], stats.get("requests_num", 0))
            waited.add_metric([name], stats.get("requests_wait_ms", 0) / 1000)
            failed.add_metric([name], stats.get("requests_errors", 0))
        yield from (size, idle, waiting, taken, waited, failed)


class JobMetrics:
    """The jobs that run commands."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.latency = Histogram(
            "onsembl_job_latency_seconds",
            "From a command's leaving its line to a worker's taking it up, at its first attempt.",
            buckets=SLOW,
            registry=registry,
        )
        self.running = Gauge("onsembl_jobs_running", "Commands that this worker sees through.", registry=registry)
        self.undelivered = Counter(
            "onsembl_offers_not_accepted", "Offers that an agent did not take up in time.", registry=registry
        )


class WorkerMetrics:
    """All that a worker shows."""

    def __init__(self, registry: CollectorRegistry, pools: Pools) -> None:
        self.jobs = JobMetrics(registry)
        self.pools = pools


class LoopLag:
    """How late the event loop is: what would have happened at once waits so long."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.histogram = Histogram(
            "onsembl_event_loop_lag_seconds", "How late the event loop turns.", buckets=FAST, registry=registry
        )

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.histogram.observe(max(0.0, time.monotonic() - due))
