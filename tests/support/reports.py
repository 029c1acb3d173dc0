"""Adds reports, as if agents had written them."""

from __future__ import annotations

import json
from uuid import UUID

from support.server import Api

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql import reports
from onsembl.sql.database import connect

EXCERPT = "def put(key: str, value: bytes) -> None:\n    cache[key] = value  # never removed\n"


def report_of(findings: int, text: str = "") -> dict:
    """A report with this many findings, and this text in every field beside its own words."""
    severities = ("critical", "high", "medium", "low", "info")
    return {
        "title": f"The cache is never cleared {text}".strip(),
        "summary": f"It grows by **one entry** a request, and nothing removes them.\n\n{text}",
        "findings": [
            {
                "title": f"No entry is ever removed ({number}) {text}".strip(),
                "severity": severities[number % len(severities)],
                "description": f"`put` has no counterpart: see the only use. {text}",
                "evidence": [
                    {
                        "file": f"src/cache.py{text}",
                        "line": 12,
                        "excerpt": EXCERPT + text,
                        "note": f"The only use. {text}",
                    }
                ],
            }
            for number in range(findings)
        ],
        "recommendations": [
            {"action": f"Bound the cache {text}".strip(), "priority": "high", "rationale": f"One line. {text}"}
        ],
    }


async def new_command(api: Api, agent_id: str, conversation_id: str | None = None) -> CommandId:
    """Add a command of Investigate that has ended, and return its id."""
    async with await connect(api.database_url, role="onsembl_api") as conn:
        cursor = await conn.execute(
            """insert into commands (agent_id, text, state, preset, conversation_id, started_at, ended_at)
               values (%s, 'Investigate it.', 'succeeded', 'Investigate', %s, now(), now()) returning id""",
            [agent_id, conversation_id],
        )
        row = await cursor.fetchone()
        assert row is not None
        return CommandId(row["id"])


async def add_report(api: Api, agent_id: str, answer: dict | str, conversation_id: str | None = None) -> str:
    """Add the answer of a new command to Investigate, and return the report's id."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    command_id = await new_command(api, agent_id, conversation_id)
    async with await connect(api.database_url, role="onsembl_api") as conn:
        await reports.write(conn, AgentId(UUID(agent_id)), command_id, text, 0)
        found = await (await conn.execute("select id from reports where command_id = %s", [command_id])).fetchone()
        assert found is not None
        return str(found["id"])
