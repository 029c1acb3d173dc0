"""The Prometheus metrics of a worker, alone or beside the API: its jobs, its event loop, its connection pools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onsembl.sql.process_database import ProcessDatabase

LAG_SECONDS = 0.5
"""How often the delay of the event loop is measured, in seconds."""
FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The bounds, in seconds, of durations that are normally well below a millisecond."""
SLOW = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)
"""The bounds, in seconds, of durations that include the database or a queue."""


def new_registry() -> CollectorRegistry:
    """A registry for one process, with the metrics of the process itself."""
    registry = CollectorRegistry()
    PlatformCollector(registry=registry)
    ProcessCollector(registry=registry)
    return registry


@dataclass(frozen=True, slots=True)
class PoolState:
    """The number of a pool's connections, of its idle connections, and of the requests that wait for a connection."""

    name: str
    size: int
    idle: int
    waiting: int


class Pools(Collector):
    """The state of the process's connection pool, read at each collection."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._databases: dict[str, ProcessDatabase] = {}
        registry.register(self)

    def watch(self, database: ProcessDatabase, name: str = "database") -> None:
        """Include this process's pool, under this name."""
        self._databases[name] = database

    def read(self) -> list[PoolState]:
        """The current state of each pool."""
        states: list[PoolState] = []
        for name, database in self._databases.items():
            stats = database.pool.get_stats()
            size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
            states.append(PoolState(name, size, idle, stats.get("requests_waiting", 0) + database.waiting))
        return states

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as prometheus-client requires."""
        size = GaugeMetricFamily("onsembl_pool_connections", "Connections of the pool.", labels=["pool"])
        idle = GaugeMetricFamily("onsembl_pool_idle", "Idle connections of the pool.", labels=["pool"])
        waiting = GaugeMetricFamily("onsembl_pool_waiting", "Requests that wait for a connection.", labels=["pool"])
        taken = CounterMetricFamily("onsembl_pool_requests", "Connections taken.", labels=["pool"])
        waited = CounterMetricFamily(
            "onsembl_pool_wait_seconds", "Time spent waiting for a connection.", labels=["pool"]
        )
        failed = CounterMetricFamily("onsembl_pool_errors", "Requests that got no connection.", labels=["pool"])
        for name, database in self._databases.items():
            stats = database.pool.get_stats()
            size.add_metric([name], stats.get("pool_size", 0))
            idle.add_metric([name], stats.get("pool_available", 0))
            waiting.add_metric([name], stats.get("requests_waiting", 0) + database.waiting)
            taken.add_metric([name], stats.get("requests_num", 0))
            waited.add_metric([name], stats.get("requests_wait_ms", 0) / 1000)
            failed.add_metric([name], stats.get("requests_errors", 0))
        yield from (size, idle, waiting, taken, waited, failed)


class JobMetrics:
    """The jobs that run commands."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.latency = Histogram(
            "onsembl_job_latency_seconds",
            "From a command's dispatch to the start of its job, at the first attempt.",
            buckets=SLOW,
            registry=registry,
        )
        self.running = Gauge("onsembl_jobs_running", "Commands whose jobs this worker runs.", registry=registry)
        self.undelivered = Counter(
            "onsembl_offers_not_accepted", "Offers that an agent did not accept in time.", registry=registry
        )


class WorkerMetrics:
    """All metrics of a worker."""

    def __init__(self, registry: CollectorRegistry, pools: Pools) -> None:
        self.jobs = JobMetrics(registry)
        self.pools = pools


class LoopLag:
    """The delay of the event loop: how long a task that is ready waits for its turn."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.histogram = Histogram(
            "onsembl_event_loop_lag_seconds", "Delay of the event loop.", buckets=FAST, registry=registry
        )

    async def watch(self) -> None:
        """Measure the delay until cancelled."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.histogram.observe(max(0.0, time.monotonic() - due))
