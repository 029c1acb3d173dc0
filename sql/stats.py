"""Figures of the whole control center, for whoever watches over it."""

from __future__ import annotations

from dataclasses import dataclass

from onsembl.sql.database import Connection


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Commands of one priority that wait; `oldest` is for how many seconds the oldest of them has."""

    depth: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Commands that are not over: how many in each state, and those that wait by priority."""

    states: dict[str, int]
    waiting: dict[int, QueueDepth]


async def unfinished(conn: Connection) -> Unfinished:
    """Count them; what is over is not looked at, however much it is."""
    cursor = await conn.execute(
        """select state, priority, count(*) as depth,
                  extract(epoch from clock_timestamp() - min(created_at))::float8 as oldest
           from (
               select state, priority, created_at from commands where state = 'queued'
               union all  -- each by the index of its own
               select state, priority, created_at from commands where state in ('dispatched', 'running')
           ) as unfinished
           group by state, priority"""
    )
    states = {"queued": 0, "dispatched": 0, "running": 0}
    waiting: dict[int, QueueDepth] = {}
    for row in await cursor.fetchall():
        states[row["state"]] += row["depth"]
        if row["state"] == "queued":
            waiting[row["priority"]] = QueueDepth(row["depth"], row["oldest"])
    return Unfinished(states, waiting)
