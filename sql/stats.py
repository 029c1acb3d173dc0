"""Statistics of the whole control center, for monitoring."""

from __future__ import annotations

from dataclasses import dataclass

from onsembl.sql.database import Connection


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The waiting commands of one priority; `oldest` is how long the oldest has waited, in seconds."""

    depth: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The unfinished commands: their number in each state, and the waiting commands by priority."""

    states: dict[str, int]
    waiting: dict[int, QueueDepth]


@dataclass(frozen=True, slots=True)
class Database:
    """`size` is in bytes; a database that is `read_only` takes no changes."""

    size: int
    read_only: bool


async def database(conn: Connection) -> Database:
    """The size of the database, and whether it takes changes."""
    cursor = await conn.execute(
        """select pg_database_size(current_database()) as size,
               current_setting('transaction_read_only')::boolean as read_only"""
    )
    row = await cursor.fetchone()
    assert row is not None
    return Database(**row)


async def read_only(conn: Connection) -> bool:
    """Whether the database takes no changes. Unlike its size, for which Postgres looks at each of its files, that is
    cheap to ask often."""
    cursor = await conn.execute("select current_setting('transaction_read_only')::boolean as read_only")
    row = await cursor.fetchone()
    assert row is not None
    return row["read_only"]


async def unfinished(conn: Connection) -> Unfinished:
    """Count the unfinished commands; finished commands are not read, however many there are."""
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
