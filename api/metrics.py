"""What one API process counts, and reads off itself, for Prometheus.

Counters belong to a registry of the application's own. What is a state (connections, bytes held) is read when it is
asked for, so that keeping it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg.rows import DictRow

from onsembl.api.terminals.hub import Hub
from onsembl.protocol.states import CommandState
from onsembl.realtime.builtin import BuiltinSupabase
from onsembl.sql.stats import Unfinished
from onsembl.tasks.metrics import FAST, SLOW, LoopLag, Pools, WorkerMetrics, new_registry


@dataclass(slots=True)
class Metrics:
    """Those of one process; `worker` is of the one that runs in it."""

    registry: CollectorRegistry = field(default_factory=new_registry)
    relay: Histogram = field(init=False)
    ended: Counter = field(init=False)
    waited: Histogram = field(init=False)
    refreshes: Counter = field(init=False)
    rejected: Counter = field(init=False)
    loop_lag: LoopLag = field(init=False)
    pools: Pools = field(init=False)
    worker: WorkerMetrics = field(init=False)

    def __post_init__(self) -> None:
        self.relay = Histogram(
            "onsembl_relay_latency_seconds",
            "From an agent's bytes to their being handed to a viewer's socket; of one chunk in many.",
            buckets=FAST,
            registry=self.registry,
        )
        self.ended = Counter(
            "onsembl_commands_ended", "Commands whose end was written here.", ["state"], registry=self.registry
        )
        self.waited = Histogram(
            "onsembl_command_wait_seconds",
            "From a command's request to its leaving its agent's line, of commands that ended.",
            ["priority"],
            buckets=SLOW,
            registry=self.registry,
        )
        self.refreshes = Counter(
            "onsembl_token_refreshes", "Agents' exchanges of tokens.", ["outcome"], registry=self.registry
        )
        self.rejected = Counter(
            "onsembl_refusals", "Requests and sockets that were turned away.", ["door"], registry=self.registry
        )
        self.loop_lag = LoopLag(self.registry)
        self.pools = Pools(self.registry)
        self.worker = WorkerMetrics(self.registry, self.pools)

    def command_ended(self, row: DictRow) -> None:
        """A command's end was written for the first time."""
        self.ended.labels(row["state"]).inc()
        if row["dispatched_at"] is not None:
            waited = (row["dispatched_at"] - row["created_at"]).total_seconds()
            self.waited.labels(str(row["priority"])).observe(max(0.0, waited))

    def commands_changed(self, rows: Iterable[DictRow]) -> None:
        """Those of them that have an end now had none before."""
        for row in rows:
            if row["ended_at"] is not None:
                self.command_ended(row)

    def cancelled_in_line(self, count: int) -> None:
        """So many that waited; none of them has left its line, whose wait would count."""
        self.ended.labels(CommandState.CANCELLED).inc(count)


@dataclass(slots=True, eq=False)
class State(Collector):
    """What the process holds right now; `unfinished` was read from the database just before."""

    hub: Hub
    builtin: BuiltinSupabase | None
    unfinished: Unfinished | None = None

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client asks."""
        hub = self.hub
        terminals = list(hub.terminals.values())
        yield _gauge("onsembl_agents_connected", "Agents whose connection is here.", len(hub.links))
        yield _gauge("onsembl_viewers_connected", "Terminals' viewers.", len(hub.viewers))
        yield _gauge("onsembl_streams", "Terminals in memory.", len(terminals))
        received = sum(terminal.received for terminal in terminals)
        yield CounterMetricFamily("onsembl_terminal_bytes", "Bytes that agents' terminals put out.", received)
        yield CounterMetricFamily("onsembl_deliveries", "Frames of them that viewers were given.", hub.delivered)
        held = sum(terminal.ring.end - terminal.ring.start for terminal in terminals)
        yield _gauge("onsembl_ring_bytes", "Terminals' bytes kept for viewers.", held)
        yield _gauge("onsembl_archive_lag_bytes", "Bytes that wait for the archive.", hub.archiver.budget.used)
        yield _gauge("onsembl_archive_away", "1 while the archive cannot be written.", hub.archiver.away)
        if self.builtin is not None:
            realtime = self.builtin.realtime
            yield _gauge("onsembl_realtime_sockets", "Sockets of Realtime.", len(realtime.sockets))
            subscribers = len(realtime.feed.subscribers)
            yield _gauge("onsembl_realtime_subscribers", "Channels that follow changed rows.", subscribers)
            yield _gauge(
                "onsembl_realtime_lag_seconds",
                "From the last commit to its delivery; while it is not delivered, its age.",
                realtime.feed.lag,
            )
        if self.unfinished is not None:
            yield from _of_commands(self.unfinished)


def _of_commands(unfinished: Unfinished) -> Iterator[Metric]:
    states = GaugeMetricFamily("onsembl_commands", "Commands that are not over, on all instances.", labels=["state"])
    for state, count in unfinished.states.items():
        states.add_metric([state], count)
    depth = GaugeMetricFamily("onsembl_queue_depth", "Commands that wait, on all instances.", labels=["priority"])
    oldest = GaugeMetricFamily("onsembl_queue_oldest_seconds", "For how long the oldest waits.", labels=["priority"])
    for priority, line in sorted(unfinished.waiting.items()):
        depth.add_metric([str(priority)], line.depth)
        oldest.add_metric([str(priority)], line.oldest)
    yield from (states, depth, oldest)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
