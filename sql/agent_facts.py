"""The facts from which agents' activities follow, from the tables of agents, commands, requests, halts and steps."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.activity import AgentFacts
from onsembl.protocol.attention_notes import NOTES
from onsembl.protocol.ids import AgentId
from onsembl.protocol.silence import TurnTimes
from onsembl.sql.database import Connection
from onsembl.sql.readable_values import UnreadableTime

PAST_TURNS = 20
"""The turns from which follows what is usual for an agent."""
SIGNS_OF_A_TURN = 1000


async def of_agents(conn: Connection, agent_ids: Collection[AgentId] | None = None) -> dict[AgentId, AgentFacts]:
    """The facts of these agents, or of all; an agent that does not exist has none."""
    cursor = await conn.execute(
        """select agents.id, agents.status = 'online' as online, disconnected_at, halt.at as halted_at,
                  coalesce(asking.waiting, 0) as waiting, asking.waiting_since, asking.waiting_title,
                  asking.waiting_id, commands.id as command_id,
                  coalesce(commands.started_at, commands.dispatched_at) as command_since,
                  greatest(turn_progress.updated_at, commands.started_at) as last_sign, agents.problem,
                  problem_since, paused_at, paused_by_name, limited_since, limited_until
           from agents
           left join commands on commands.agent_id = agents.id and commands.state in ('dispatched', 'running')
           left join turn_progress on turn_progress.command_id = commands.id
           left join (
               select agent_id, count(*) as waiting, min(asked_at) as waiting_since,
                      (array_agg(title order by seq))[1] as waiting_title, (array_agg(id order by seq))[1] as waiting_id
               from attention where state = 'open' and kind <> all(%(notes)s) group by agent_id
           ) as asking on asking.agent_id = agents.id
           left join (select at from halts where lifted_at is null) as halt on true
           where %(ids)s::uuid[] is null or agents.id = any(%(ids)s)""",
        {"ids": list(agent_ids) if agent_ids is not None else None, "notes": list(NOTES)},
    )
    return {
        AgentId(row.pop("id")): AgentFacts(**{name: _plain(value) for name, value in row.items()})
        for row in await cursor.fetchall()
    }


async def database_time(conn: Connection) -> datetime:
    """The present time of the database's clock."""
    cursor = await conn.execute("select now() as now")
    row = await cursor.fetchone()
    assert row is not None
    return row["now"]


async def past_turns(conn: Connection, agent_id: AgentId) -> list[TurnTimes]:
    """The times of the agent's last `PAST_TURNS` turns that have ended."""
    cursor = await conn.execute(
        """select coalesce(signs, '{}') as signs, coalesce(waits, '{}') as waits
           from (
               select id, created_at from commands
               where agent_id = %s and conversation_id is not null and ended_at is not null
               order by seq desc limit %s
           ) as turn
           cross join lateral (
               select array_agg(sign) as signs from (
                   select unnest(array [started_at, ended_at]) as sign from steps
                   where at = turn.created_at and command_id = turn.id order by number limit %s
               ) as signs where isfinite(sign)
           ) as signs
           cross join lateral (
               select array_agg(array [asked_at, closed_at]) as waits from attention
               where command_id = turn.id and isfinite(asked_at) and isfinite(closed_at)
           ) as waits""",
        [agent_id, PAST_TURNS, SIGNS_OF_A_TURN],
    )
    return [
        TurnTimes(row["signs"], [(begun, ended) for begun, ended in row["waits"]]) for row in await cursor.fetchall()
    ]


async def doing(conn: Connection, command_id: UUID) -> DictRow | None:
    """The newest step of a command that has not ended, or else its newest one: `title`, `name` and `started_at`."""
    cursor = await conn.execute(
        """select title, name, started_at from steps
           where at = (select created_at from commands where id = %(id)s) and command_id = %(id)s
           order by (ended_at is null) desc, number desc limit 1""",
        {"id": command_id},
    )
    return await cursor.fetchone()


def _plain(value: Any) -> Any:
    """A time beyond those of Python as the nearest that JSON can hold."""
    return datetime(value.year, 1, 1, tzinfo=UTC) if isinstance(value, UnreadableTime) else value
