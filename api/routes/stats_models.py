"""Models of the statistics."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer
from onsembl.protocol.field_types import Priority
from onsembl.protocol.statistics import Distribution, PoolStatistics


class QueueStatistics(Answer, frozen=True, kw_only=True):
    """The queued commands of one priority; `oldest` is the age of the oldest one, in seconds."""

    priority: Priority
    depth: int
    oldest: float


class UnfinishedCommands(Answer, frozen=True, kw_only=True):
    """The unfinished commands of all instances."""

    queued: int
    dispatched: int
    running: int
    queue: list[QueueStatistics]


class DatabaseStatistics(Answer, frozen=True, kw_only=True):
    """The size of the database in bytes, and the limit that the settings name; a database that is `read_only` takes no
    changes."""

    size: int
    limit: int | None
    read_only: bool


class Statistics(Answer, frozen=True, kw_only=True):
    """The sums over the instances that are alive and have answered in time. Counters only grow: a rate is the
    difference of two readings of the same instances."""

    instances: Annotated[list[UUID], Meta(description="The instances whose statistics are summed, in ascending order.")]
    at: Annotated[float, Meta(description="The time of the reading, in seconds since 1970.")]
    agents: int
    viewers: int
    realtime_subscribers: Annotated[int | None, Meta(description="null where Supabase is hosted.")]
    terminal_bytes: Annotated[int, Meta(description="Bytes of output of the agents' terminals. Only grows.")]
    deliveries: Annotated[int, Meta(description="Frames of output sent to viewers. Only grows.")]
    archive_lag_bytes: int
    relay: Distribution
    loop_lag: Distribution
    commands_ended: Annotated[dict[str, int], Meta(description="The number of ended commands by state. Only grows.")]
    commands: Annotated[UnfinishedCommands | None, Meta(description="null while the database is not responding.")]
    pools: list[PoolStatistics]
    database: Annotated[DatabaseStatistics | None, Meta(description="null until the first look at the database.")]
    memory_bytes: Annotated[int | None, Meta(description="Memory of the processes; null where it is unknown.")]
    cpu_seconds: Annotated[float | None, Meta(description="CPU time of the processes. Only grows.")]
