"""What the page of figures is told."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer
from onsembl.protocol.field_types import Priority


class Distribution(Answer, frozen=True, kw_only=True):
    """Times that were measured, in seconds: `counts[i]` of them were `bounds[i]` at most, and the last count is of all.
    They only grow; two readings tell of the time between."""

    bounds: list[float]
    counts: list[int]


class PoolStatistics(Answer, frozen=True, kw_only=True):
    """Connections to the database: how many there are, how many of them are in use, and who waits for one."""

    name: str
    size: int
    in_use: int
    waiting: int


class QueueStatistics(Answer, frozen=True, kw_only=True):
    """Commands of one priority that wait; `oldest` is for how many seconds the oldest of them has."""

    priority: Priority
    depth: int
    oldest: float


class UnfinishedCommands(Answer, frozen=True, kw_only=True):
    """Commands of all instances that are not over."""

    queued: int
    dispatched: int
    running: int
    queue: list[QueueStatistics]


class Statistics(Answer, frozen=True, kw_only=True):
    """One instance's figures, as `/metrics` has them, but for `commands`, which are everybody's. Those that say so only
    grow; a rate is the difference of two readings of the same instance."""

    instance_id: UUID
    at: Annotated[float, Meta(description="When they were read, in seconds since 1970.")]
    agents: int
    viewers: int
    realtime_subscribers: Annotated[int | None, Meta(description="null where Supabase is hosted.")]
    terminal_bytes: Annotated[int, Meta(description="Bytes that agents' terminals put out. Only grows.")]
    deliveries: Annotated[int, Meta(description="Frames of them that viewers were given. Only grows.")]
    archive_lag_bytes: int
    relay: Distribution
    loop_lag: Distribution
    commands_ended: Annotated[dict[str, int], Meta(description="By state. They only grow.")]
    commands: Annotated[UnfinishedCommands | None, Meta(description="null while the database does not answer.")]
    pools: list[PoolStatistics]
    memory_bytes: Annotated[int | None, Meta(description="Of the process; null where the system does not say.")]
    cpu_seconds: Annotated[float | None, Meta(description="Of the process. Only grows.")]
