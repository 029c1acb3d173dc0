"""Metrics of one API process, for Prometheus and for the dashboard's statistics.

Counters and histograms are kept in a registry of the application. State, such as the number of connections, is read
from its owner when it is asked for, so that it costs nothing until then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg.rows import DictRow

from onsembl.api.database_state import DatabaseState
from onsembl.api.instances.relays import Relays
from onsembl.api.terminals.hub import Hub
from onsembl.fleet.activities import ActivityFigures
from onsembl.protocol.activity import AgentActivity
from onsembl.protocol.states import CommandState
from onsembl.protocol.waking import Load, wanted_workers
from onsembl.realtime.channels.server import RealtimeServer
from onsembl.sql.stats import Unfinished
from onsembl.sql.vendor_limits import LimitFigures
from onsembl.tasks.metrics import FAST, SLOW, LoopLag, Pools, WorkerMetrics, new_registry


@dataclass(slots=True)
class Metrics:
    """The counters and histograms of one process; `worker` has those of the worker that runs in it."""

    registry: CollectorRegistry = field(default_factory=new_registry)
    relay: Histogram = field(init=False)
    ended: Counter = field(init=False)
    waited: Histogram = field(init=False)
    answered: Histogram = field(init=False)
    refreshes: Counter = field(init=False)
    rejected: Counter = field(init=False)
    unreadable: Counter = field(init=False)
    loop_lag: LoopLag = field(init=False)
    pools: Pools = field(init=False)
    worker: WorkerMetrics = field(init=False)

    def __post_init__(self) -> None:
        self.relay = Histogram(
            "onsembl_relay_latency_seconds",
            "Time from an agent's bytes to the write to a viewer's socket; a sample of the chunks.",
            buckets=FAST,
            registry=self.registry,
        )
        self.ended = Counter(
            "onsembl_commands_ended", "Commands whose end this instance wrote.", ["state"], registry=self.registry
        )
        self.waited = Histogram(
            "onsembl_command_wait_seconds",
            "Time from a command's request to its dispatch, of commands that have ended.",
            ["priority"],
            buckets=SLOW,
            registry=self.registry,
        )
        self.answered = Histogram(
            "onsembl_answer_seconds",
            "Time from a request of an agent to its answer by an operator.",
            ["kind"],
            buckets=SLOW,
            registry=self.registry,
        )
        self.refreshes = Counter(
            "onsembl_token_refreshes", "Refreshes of agents' tokens.", ["outcome"], registry=self.registry
        )
        self.rejected = Counter(
            "onsembl_refusals", "Rejected requests and sockets, by endpoint.", ["door"], registry=self.registry
        )
        self.unreadable = Counter(
            "onsembl_unreadable_values",
            "Values of rows that an answer could not show, by endpoint.",
            ["endpoint"],
            registry=self.registry,
        )
        self.loop_lag = LoopLag(self.registry)
        self.pools = Pools(self.registry)
        self.worker = WorkerMetrics(self.registry, self.pools)

    def command_ended(self, row: DictRow) -> None:
        """Count the end of a command, once it is written."""
        self.ended.labels(row["state"]).inc()
        if row["dispatched_at"] is not None:
            waited = (row["dispatched_at"] - row["created_at"]).total_seconds()
            self.waited.labels(str(row["priority"])).observe(max(0.0, waited))

    def request_answered(self, row: DictRow) -> None:
        """Count an operator's answer, once it is written."""
        self.answered.labels(row["kind"]).observe(max(0.0, (row["closed_at"] - row["asked_at"]).total_seconds()))

    def commands_changed(self, rows: Iterable[DictRow]) -> None:
        """Count the ends among rows that were just changed and had not ended before."""
        for row in rows:
            if row["ended_at"] is not None:
                self.command_ended(row)

    def cancelled_in_queue(self, count: int) -> None:
        """Count commands that were cancelled in the queue. Their wait is not measured: they were never dispatched."""
        self.ended.labels(CommandState.CANCELLED).inc(count)

    def ended_by_state(self) -> dict[str, int]:
        """The commands whose end this instance wrote, by final state."""
        (metric,) = self.ended.collect()
        return {
            sample.labels["state"]: int(sample.value) for sample in metric.samples if sample.name.endswith("_total")
        }


def buckets(histogram: Histogram) -> dict[float, int]:
    """The cumulative counts of a histogram without labels, by upper bound; the last bound is infinite."""
    (metric,) = histogram.collect()
    return {
        float(sample.labels["le"]): int(sample.value) for sample in metric.samples if sample.name.endswith("_bucket")
    }


def resident_bytes() -> int | None:
    """The memory that the process occupies; None where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, eq=False)
class StateMetrics(Collector):
    """The present state of the process and of its database."""

    hub: Hub
    database: DatabaseState
    relays: Relays

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client for each reading."""
        hub = self.hub
        yield _gauge("onsembl_agents_connected", "Agents that are connected to this instance.", len(hub.links))
        yield _gauge("onsembl_viewers_connected", "Connected viewers of terminals.", len(hub.viewers))
        yield _gauge("onsembl_streams", "Terminals in memory.", len(hub.terminals))
        yield CounterMetricFamily("onsembl_terminal_bytes", "Bytes of output that agents sent.", hub.received)
        yield CounterMetricFamily("onsembl_deliveries", "Frames of output that were sent to viewers.", hub.delivered)
        yield _gauge("onsembl_ring_bytes", "Bytes of output in memory for viewers.", hub.held_bytes)
        relays = self.relays
        yield _gauge(
            "onsembl_relay_connections", "Connections to instances that relay to this one.", relays.connections
        )
        text = "Terminals that this instance relays from other instances."
        yield _gauge("onsembl_relayed_streams", text, len(relays.terminals))
        text = "Terminals that this instance sends to others: one for each that relays it."
        yield _gauge("onsembl_relay_streams_sent", text, len(relays.served))
        text = "Bytes of output that came from other instances."
        yield CounterMetricFamily("onsembl_relay_received_bytes", text, relays.received)
        text = "Bytes of output that were sent to other instances."
        yield CounterMetricFamily("onsembl_relay_sent_bytes", text, relays.sent)
        yield _gauge("onsembl_archive_lag_bytes", "Bytes that are not archived yet.", hub.archiver.budget.used)
        yield _gauge("onsembl_archive_away", "1 while the archive cannot be written.", hub.archiver.unavailable)
        if self.database.size is not None:
            yield _gauge("onsembl_database_bytes", "Size of the database.", self.database.size)
        yield _gauge("onsembl_database_read_only", "1 while the database takes no changes.", self.database.read_only)


@dataclass(slots=True, eq=False)
class RealtimeMetrics(Collector):
    """The present state of the built-in Realtime in this process."""

    realtime: RealtimeServer

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client for each reading."""
        feed = self.realtime.feed
        yield _gauge("onsembl_realtime_sockets", "Connected sockets of Realtime.", len(self.realtime.sockets))
        subscribers = len(feed.subscribers)
        yield _gauge("onsembl_realtime_subscribers", "Channels that subscribe to changes of rows.", subscribers)
        yield _gauge(
            "onsembl_realtime_lag_seconds",
            "Time from the last commit to its delivery; the commit's age while it is not delivered.",
            feed.lag,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FleetMetrics(Collector):
    """What the database has of the queue and of the agents, the same for every process."""

    unfinished: Unfinished | None
    limits: LimitFigures | None
    activities: ActivityFigures | None
    load: Load | None
    jobs_per_worker: int

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client for each reading."""
        if self.unfinished is not None:
            yield from _of_commands(self.unfinished)
        if self.limits is not None:
            yield from _of_limits(self.limits)
        if self.activities is not None:
            yield from _of_activities(self.activities)
        if self.load is not None:
            yield _gauge("onsembl_jobs_startable", "Jobs that run, or that a worker could start now.", self.load.jobs)
            yield _gauge("onsembl_workers", "Workers that have not signed off.", self.load.workers)
            wanted = wanted_workers(self.load.jobs, self.jobs_per_worker)
            yield _gauge("onsembl_workers_wanted", "Workers that are wanted for these jobs.", wanted)


def _of_commands(unfinished: Unfinished) -> Iterator[Metric]:
    states = GaugeMetricFamily("onsembl_commands", "Unfinished commands of all instances.", labels=["state"])
    for state, count in unfinished.states.items():
        states.add_metric([state], count)
    depth = GaugeMetricFamily("onsembl_queue_depth", "Queued commands of all instances.", labels=["priority"])
    oldest = GaugeMetricFamily(
        "onsembl_queue_oldest_seconds", "How long the oldest queued command has waited.", labels=["priority"]
    )
    for priority, waiting in sorted(unfinished.waiting.items()):
        depth.add_metric([str(priority)], waiting.depth)
        oldest.add_metric([str(priority)], waiting.oldest)
    yield from (states, depth, oldest)


def _of_limits(limits: LimitFigures) -> Iterator[Metric]:
    text = "Agents that wait, because they have reached a usage limit of their vendor."
    yield _gauge("onsembl_agents_limited", text, limits.limited)
    used = GaugeMetricFamily(
        "onsembl_rate_window_used_ratio", "Used share of the window of a plan.", labels=["agent", "window"]
    )
    for names, share in limits.used.items():
        used.add_metric(names, share)
    yield used


def _of_activities(figures: ActivityFigures) -> Iterator[Metric]:
    agents = GaugeMetricFamily("onsembl_agents", "Agents of all instances, by what they do.", labels=["status"])
    for name in AgentActivity:
        agents.add_metric([name], figures.agents[name])
    yield agents
    yield _gauge("onsembl_requests_waiting", "Requests of agents that wait for a person.", figures.waiting)
    yield _gauge(
        "onsembl_request_oldest_seconds",
        "How long the oldest request of an agent has waited for a person; 0 without one.",
        figures.oldest,
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
