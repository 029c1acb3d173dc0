"""The facts from which agents' activities follow, from the tables of agents, commands, requests and halts."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from onsembl.protocol.activity import AgentFacts
from onsembl.protocol.ids import AgentId
from onsembl.sql.database import Connection
from onsembl.sql.readable_values import UnreadableTime


async def of_agents(conn: Connection, agent_ids: Collection[AgentId] | None = None) -> dict[AgentId, AgentFacts]:
    """The facts of these agents, or of all; an agent that does not exist has none."""
    cursor = await conn.execute(
        """select agents.id, agents.status = 'online' as online, disconnected_at, halt.at as halted_at,
                  coalesce(asking.waiting, 0) as waiting, asking.waiting_since, asking.waiting_title,
                  asking.waiting_id, commands.id as command_id,
                  coalesce(commands.started_at, commands.dispatched_at) as command_since, agents.problem,
                  problem_since, paused_at, paused_by_name, limited_since, limited_until
           from agents
           left join commands on commands.agent_id = agents.id and commands.state in ('dispatched', 'running')
           left join (
               select agent_id, count(*) as waiting, min(asked_at) as waiting_since,
                      (array_agg(title order by seq))[1] as waiting_title, (array_agg(id order by seq))[1] as waiting_id
               from attention where state = 'open' group by agent_id
           ) as asking on asking.agent_id = agents.id
           left join (select at from halts where lifted_at is null) as halt on true
           where %(ids)s::uuid[] is null or agents.id = any(%(ids)s)""",
        {"ids": list(agent_ids) if agent_ids is not None else None},
    )
    return {
        AgentId(row.pop("id")): AgentFacts(**{name: _plain(value) for name, value in row.items()})
        for row in await cursor.fetchall()
    }


def _plain(value: Any) -> Any:
    """A time beyond those of Python as the nearest that JSON can hold."""
    return datetime(value.year, 1, 1, tzinfo=UTC) if isinstance(value, UnreadableTime) else value
