"""The statistics of API processes, and their sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from msgspec import Meta

from onsembl.protocol.field_types import MAX_COUNT, Bounded, Count, ShortText

Number = TypeVar("Number", int, float)
Seconds = Annotated[float, Meta(ge=0, le=MAX_COUNT)]


class Distribution(Bounded, frozen=True, kw_only=True):
    """A histogram of times in seconds: `counts[i]` is the number of times up to `bounds[i]`, the last count the number
    of all times. Counts only grow; the difference of two readings covers the time between them."""

    bounds: Annotated[list[Seconds], Meta(max_length=64)]
    counts: Annotated[list[Count], Meta(max_length=65)]


class PoolStatistics(Bounded, frozen=True, kw_only=True):
    """The connections of a database pool: their number, the number in use, and the number of requests that wait for
    one."""

    name: ShortText
    size: Count
    in_use: Count
    waiting: Count


class ProcessStatistics(Bounded, frozen=True, kw_only=True):
    """The statistics of one process, or their sum over several. What only grows in a process begins with 0."""

    agents: Count
    viewers: Count
    realtime_subscribers: Count | None
    terminal_bytes: Count
    deliveries: Count
    archive_lag_bytes: Count
    relay: Distribution
    loop_lag: Distribution
    commands_ended: Annotated[dict[ShortText, Count], Meta(max_length=64)]
    pools: Annotated[list[PoolStatistics], Meta(max_length=16)]
    memory_bytes: Count | None
    cpu_seconds: Seconds | None


def summed(parts: Sequence[ProcessStatistics]) -> ProcessStatistics:
    """The sum over at least one process. What a process does not know is left out of its sum, and so is a histogram
    whose bounds are not those of the first."""
    ended: dict[str, int] = {}
    for part in parts:
        for state, count in part.commands_ended.items():
            ended[state] = ended.get(state, 0) + count
    pools: dict[str, list[PoolStatistics]] = {}
    for pool in [pool for part in parts for pool in part.pools]:
        pools.setdefault(pool.name, []).append(pool)
    return ProcessStatistics(
        agents=sum(part.agents for part in parts),
        viewers=sum(part.viewers for part in parts),
        realtime_subscribers=_known([part.realtime_subscribers for part in parts]),
        terminal_bytes=sum(part.terminal_bytes for part in parts),
        deliveries=sum(part.deliveries for part in parts),
        archive_lag_bytes=sum(part.archive_lag_bytes for part in parts),
        relay=_joined([part.relay for part in parts]),
        loop_lag=_joined([part.loop_lag for part in parts]),
        commands_ended=ended,
        pools=[
            PoolStatistics(
                name=name,
                size=sum(pool.size for pool in same),
                in_use=sum(pool.in_use for pool in same),
                waiting=sum(pool.waiting for pool in same),
            )
            for name, same in pools.items()
        ],
        memory_bytes=_known([part.memory_bytes for part in parts]),
        cpu_seconds=_known([part.cpu_seconds for part in parts]),
    )


def _known(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None


def _joined(parts: Sequence[Distribution]) -> Distribution:
    bounds = parts[0].bounds
    same = [part.counts for part in parts if part.bounds == bounds and len(part.counts) == len(bounds) + 1]
    return Distribution(bounds=bounds, counts=[sum(counts) for counts in zip(*same, strict=True)])
