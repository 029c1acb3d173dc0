"""Models of the statistics."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer
from onsembl.protocol.field_types import Priority


class Distribution(Answer, frozen=True, kw_only=True):
    """A histogram of times in seconds: `counts[i]` is the number of times up to `bounds[i]`, the last count the number
    of all times. Counts only grow; the difference of two readings covers the time between them."""

    bounds: list[float]
    counts: list[int]


class PoolStatistics(Answer, frozen=True, kw_only=True):
    """The connections of a database pool: their number, the number in use, and the number of requests that wait for
    one."""

    name: str
    size: int
    in_use: int
    waiting: int


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
    """The statistics of one instance; `commands` covers all instances. Counters only grow: a rate is the difference of
    two readings of the same instance."""

    instance_id: UUID
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
    memory_bytes: Annotated[int | None, Meta(description="Memory of the process; null where it is unknown.")]
    cpu_seconds: Annotated[float | None, Meta(description="CPU time of the process. Only grows.")]
