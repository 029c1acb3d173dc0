"""What the agents of the fleet do at present."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from onsembl.protocol.activity import AgentActivity, CurrentActivity, Silence, activity_of
from onsembl.protocol.ids import AgentId
from onsembl.protocol.silence import LEAST_SILENCE, is_unusual, usual_silence
from onsembl.sql import agent_facts
from onsembl.sql.database import Connection


@dataclass(frozen=True, slots=True)
class Present:
    """What an agent does, and its unusual silence, if there is one."""

    activity: CurrentActivity
    silence: Silence | None


async def present(conn: Connection, agent_ids: Collection[AgentId] | None = None) -> dict[AgentId, Present]:
    """What these agents do, or all."""
    now = await agent_facts.database_time(conn)
    found: dict[AgentId, Present] = {}
    for agent_id, facts in (await agent_facts.of_agents(conn, agent_ids)).items():
        activity, silence = activity_of(facts), None
        if (
            activity.name is AgentActivity.WORKING
            and facts.command_id is not None
            and facts.last_sign is not None
            and now - facts.last_sign > LEAST_SILENCE
        ):
            usual = usual_silence(await agent_facts.past_turns(conn, agent_id))
            if usual is not None and is_unusual(now - facts.last_sign, usual):
                step = await agent_facts.doing(conn, facts.command_id)
                silence = Silence(
                    since=facts.last_sign,
                    usual_seconds=usual.total_seconds(),
                    doing=(step["title"] or step["name"]) if step is not None else None,
                    doing_since=step["started_at"] if step is not None else None,
                )
        found[agent_id] = Present(activity, silence)
    return found


@dataclass(frozen=True, slots=True)
class ActivityFigures:
    """How many agents do what; and how many requests wait for a person, the oldest of them for how many seconds."""

    agents: Counter[AgentActivity]
    waiting: int
    oldest: float


async def figures(conn: Connection) -> ActivityFigures:
    """Count what all agents do."""
    now = await agent_facts.database_time(conn)
    facts = (await agent_facts.of_agents(conn)).values()
    since = [each.waiting_since for each in facts if each.waiting_since is not None]
    return ActivityFigures(
        Counter(activity_of(each).name for each in facts),
        sum(each.waiting for each in facts),
        max(0.0, (now - min(since)).total_seconds()) if since else 0.0,
    )
