"""Writes the problems that agents report, as of a full disk: an agent with a problem takes no command."""

from __future__ import annotations

import logging

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, alerts, audit
from onsembl.sql.database import Connection

logger = logging.getLogger(__name__)


async def write_problem(conn: Connection, agent: DictRow, problem: str | None, actor: audit.Actor) -> None:
    """Write an agent's problem, or with None its end.

    The beginning raises an alert, and both are audited. The caller holds the agent's row, which is `agent`.
    """
    before, agent_id = agent["problem"], AgentId(agent["id"])
    if before == problem:
        return
    await agents.set_problem(conn, agent_id, problem)
    if before is None or problem is None:  # else it goes on, with another text
        action = "agent.problem_over" if problem is None else "agent.problem_begun"
        detail = {"name": agent["name"], "problem": problem or before}
        await audit.write(
            conn, audit.Event(actor=actor, action=action, target_kind="agent", target_id=str(agent_id), detail=detail)
        )
    if problem is not None and before is None:
        text = f"{agent['name']} takes no command: {problem}"
        await alerts.raise_for_agent_once(conn, "agent_problem", agent_id, text)
        logger.warning(
            "An agent has a problem: %s", problem, extra={"action": "agent_problem", "agent_id": str(agent_id)}
        )
