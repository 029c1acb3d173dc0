"""The event feed: `event_outbox`, into which triggers write what happens, and `events`, in which it has a position.

An entry `agent.changed` of the outbox is no event, but a mark: the activity of the agent, or of all agents, may be
another one.

Positions are given after the commit of what happened, by one process at a time. So they grow in the order in which they
can be read, and a reader that continues after the highest position that it has seen misses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import to_builtins
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.activity import CurrentActivity
from onsembl.protocol.ids import AgentId
from onsembl.sql.database import Connection

CHANNEL = "onsembl_events"
"""The NOTIFY channel that says that the outbox has events."""


@dataclass(frozen=True, slots=True)
class Feed:
    """The highest position that was given, and the highest that was deleted."""

    last: int
    deleted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """A filter of events; a field that is None matches everything. `kind` is a kind, or the first part of kinds."""

    kind: str | None = None
    agent_id: AgentId | None = None


async def outbox_waits(conn: Connection) -> bool:
    """Whether the outbox has events."""
    cursor = await conn.execute("select exists (select from event_outbox) as waits")
    row = await cursor.fetchone()
    return row is not None and row["waits"]


async def lock(conn: Connection) -> Feed:
    """The feed, locked until the transaction ends: no other process gives positions meanwhile."""
    cursor = await conn.execute("select last, deleted from event_feed for update")
    row = await cursor.fetchone()
    assert row is not None
    return Feed(row["last"], row["deleted"])


async def move(conn: Connection, most: int) -> tuple[int, list[DictRow]]:
    """Give at most so many events of the outbox the next positions. Return how many were taken, and of each agent that
    was marked its `agent_id`, and the time `at`. The caller has locked the feed."""
    cursor = await conn.execute(
        """with taken as (
               delete from event_outbox where id in (select id from event_outbox order by id limit %(most)s)
               returning *
           ), moved as (
               insert into events (position, at, kind, agent_id, command_id, conversation_id, subject_id, detail)
               select (select last from event_feed) + row_number() over (order by id), at, kind, agent_id, command_id,
                      conversation_id, subject_id, detail
               from taken where kind <> 'agent.changed'
           ), fed as (
               update event_feed set last = last + (select count(*) from taken where kind <> 'agent.changed')
           )
           select count(*) as taken, agent_id, max(at) as at, kind = 'agent.changed' as marked
           from taken group by agent_id, marked""",
        {"most": most},
    )
    rows = await cursor.fetchall()
    return sum(row["taken"] for row in rows), [row for row in rows if row["marked"]]


async def last_activities(conn: Connection, agent_ids: Sequence[AgentId]) -> dict[AgentId, str]:
    """The activity in the last `agent.status` event of each of these agents that has one."""
    cursor = await conn.execute(
        """select id, told.activity from unnest(%s::uuid[]) as agent (id)
           cross join lateral (
               select detail ->> 'name' as activity from events
               where agent_id = agent.id and kind = 'agent.status' order by position desc limit 1
           ) as told""",
        [list(agent_ids)],
    )
    return {AgentId(row["id"]): row["activity"] for row in await cursor.fetchall()}


async def append_activities(conn: Connection, changed: Mapping[AgentId, tuple[datetime, CurrentActivity]]) -> None:
    """Add an `agent.status` event for each of these agents. The caller has locked the feed."""
    for agent_id, (at, activity) in changed.items():
        detail = to_builtins(activity)
        await conn.execute(
            """with fed as (update event_feed set last = last + 1 returning last)
               insert into events (position, at, kind, agent_id, command_id, detail)
               select last, %s, 'agent.status', %s, %s, %s from fed""",
            [at, agent_id, activity.command_id, Jsonb(detail)],
        )


async def page(conn: Connection, wanted: EventFilter, after: int | None, limit: int) -> tuple[Feed, list[DictRow]]:
    """The feed, and at the same moment the events that match after this position, or the first ones, in their order.

    Besides its columns an event has `agent_name`, and in `is_open` whether its request is still open.
    """
    cursor = await conn.execute(
        """select feed.last, feed.deleted, event.* from event_feed as feed left join lateral (
               select position, events.at, events.kind, events.agent_id, agents.name as agent_name,
                      events.command_id, events.conversation_id, subject_id, detail,
                      attention.state = 'open' and attention.digest = detail ->> 'digest' as is_open
               from events left join agents on agents.id = events.agent_id
               left join attention on attention.id = subject_id
               where position > coalesce(%(after)s::bigint, 0)
                 and (%(kind)s::text is null or events.kind = %(kind)s
                      or starts_with(events.kind, %(kind)s || '.'))
                 and (%(agent)s::uuid is null or events.agent_id = %(agent)s)
               order by position limit %(limit)s
           ) as event on true order by position""",
        {"after": after, "kind": wanted.kind, "agent": wanted.agent_id, "limit": limit},
    )
    rows = await cursor.fetchall()
    feed = Feed(rows[0].pop("last"), rows[0].pop("deleted"))
    for row in rows[1:]:
        del row["last"], row["deleted"]
    return feed, [row for row in rows if row["position"] is not None]


async def read_feed(conn: Connection) -> Feed:
    """The feed."""
    cursor = await conn.execute("select last, deleted from event_feed")
    row = await cursor.fetchone()
    assert row is not None
    return Feed(row["last"], row["deleted"])


async def forget(conn: Connection, days: int) -> None:
    """Delete the events before the first one that is younger than so many days."""
    feed = await lock(conn)
    cursor = await conn.execute(
        """select position - 1 as upto from events where at >= now() - %s * interval '1 day'
           order by position limit 1""",
        [days],
    )
    row = await cursor.fetchone()
    upto = row["upto"] if row is not None else feed.last
    if upto > feed.deleted:
        await conn.execute("delete from events where position <= %s", [upto])
        await conn.execute("update event_feed set deleted = %s", [upto])
