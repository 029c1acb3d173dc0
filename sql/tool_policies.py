"""The table `tool_policies`: tools that an admin keeps for admins, or denies."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId
from onsembl.protocol.tool_rules import MAX_RULES, ToolRules
from onsembl.sql.database import Connection

COLUMNS = "id, seq, verdict, rule, agent_id, label, created_at, created_by_name"
Verdict = Literal["admin", "deny"]

IN_FORCE = "(p.agent_id = agents.id or p.label = any(agents.labels) or (p.agent_id is null and p.label is null))"
"""The condition that a policy `p` is in force for a row of `agents`."""


async def page(conn: Connection, agent_id: AgentId | None) -> list[DictRow]:
    """All policies, or those in force for an agent, oldest first: there are `MAX_RULES` at most."""
    cursor = await conn.execute(
        f"""select {COLUMNS} from tool_policies as p
            where %(agent)s::uuid is null or exists (select from agents where id = %(agent)s and {IN_FORCE})
            order by seq""",
        {"agent": agent_id},
    )
    return await cursor.fetchall()


async def in_force(conn: Connection, agent_id: AgentId) -> dict[Verdict, ToolRules]:
    """The rules of each verdict that are in force for an agent. Each denies what it fits."""
    rows = await page(conn, agent_id)
    return {
        verdict: ToolRules(deny=[row["rule"] for row in rows if row["verdict"] == verdict])
        for verdict in ("admin", "deny")
    }


async def kept_for_admins(conn: Connection, agent_ids: Collection[AgentId]) -> dict[AgentId, list[DictRow]]:
    """The policies that keep tools of these agents for admins, oldest first: `rule` and `created_by_name`."""
    cursor = await conn.execute(
        f"""select agents.id as agent_id, rule, p.created_by_name
            from tool_policies as p join agents on {IN_FORCE}
            where verdict = 'admin' and agents.id = any(%s) order by p.seq""",
        [list(agent_ids)],
    )
    found: dict[AgentId, list[DictRow]] = {}
    for row in await cursor.fetchall():
        found.setdefault(AgentId(row["agent_id"]), []).append(row)
    return found


async def add(
    conn: Connection, verdict: Verdict, rule: str, agent_id: AgentId | None, label: str | None, by_name: str
) -> DictRow | None:
    """Add a policy, and return its row; None if there is such a one, or `MAX_RULES` others."""
    await conn.execute("lock table tool_policies in share row exclusive mode")  # two of them count the same rows else
    cursor = await conn.execute(
        f"""insert into tool_policies (verdict, rule, agent_id, label, created_by_name)
            select %s, %s, %s, %s, %s where (select count(*) from tool_policies) < %s
            on conflict do nothing returning {COLUMNS}""",
        [verdict, rule, agent_id, label, by_name, MAX_RULES],
    )
    return await cursor.fetchone()


async def delete(conn: Connection, policy_id: UUID) -> DictRow | None:
    """Delete a policy, and return its row."""
    cursor = await conn.execute(f"delete from tool_policies where id = %s returning {COLUMNS}", [policy_id])
    return await cursor.fetchone()
