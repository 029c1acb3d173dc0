"""The last line and the folder of agents, from their programs to REST and Realtime's tables."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api

from onsembl.api.terminals import last_lines
from onsembl.api.terminals.last_lines import MAX_AGENTS, MAX_COMMANDS, LastLines
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql.database import connect


async def test_the_last_line_and_the_branch_are_told(api, tmp_path):
    """While a command runs its last line is known, and after its end with its cost; the agent's folder is known when it
    connects, and its branch after each command."""
    admin = Operator(api, await api.operator())

    async def agent_with(line: str) -> dict | None:
        row = await call_api(admin, "GET", f"/v1/agents/{agent.id}")
        return row if row["last_command"] is not None and row["last_command"]["last_line"] == line else None

    async with agent_running(api, tmp_path) as agent:
        command = await admin.send(agent.id, "echo one; exec sleep 100")
        listed = f"/v1/commands?agent_id={agent.id}"

        async def runs() -> bool:
            return (await call_api(admin, "GET", listed))["last_lines"] == {command["id"]: "one"}

        await until(runs, "its line is known")
        before = await call_api(admin, "GET", f"/v1/agents/{agent.id}")
        assert (before["folder"], before["branch"], before["last_command"]) == (str(tmp_path), None, None)
        await admin.cancel(command)
        await admin.until_state(command, *FINAL)
        command = await admin.send(agent.id, "git init -q -b topic .; printf 'two\n\n'")
        row = await until(lambda: agent_with("two"), "the last line of its end")
        assert isinstance(row, dict)
        assert (row["last_command"]["id"], row["last_command"]["cost_usd"]) == (command["id"], None)

        async def on_topic() -> bool:
            return (await call_api(admin, "GET", f"/v1/agents/{agent.id}"))["branch"] == "topic"

        await until(on_topic, "its branch is known")


@pytest.mark.no_worker
async def test_lines_are_written_together_and_in_bounds(api, monkeypatch):
    """One write has the newest line of each command, of so many agents and no more; lines of unknown commands and of
    other agents' commands change nothing."""
    admin = Operator(api, await api.operator())
    agent, other = await api.enrol("one"), await api.enrol("two")
    command = await admin.send(agent.id, "make")
    agent_id, command_id = AgentId(UUID(agent.id)), CommandId(UUID(command["id"]))
    lines = LastLines(api.services.pool)
    writes: list[int] = []
    write = last_lines.steps.write_last_lines

    async def counted(conn, rows) -> None:
        writes.append(len(rows))
        await write(conn, rows)

    monkeypatch.setattr(last_lines.steps, "write_last_lines", counted)
    for number in range(1000):
        lines.put(agent_id, command_id, f"line {number}")
        lines.put(AgentId(UUID(other.id)), command_id, "of another agent")
    for _ in range(MAX_COMMANDS * 2):
        lines.put(AgentId(UUID(other.id)), CommandId(uuid4()), "of no command")
    for _ in range(MAX_AGENTS):
        lines.put(AgentId(uuid4()), CommandId(uuid4()), "of no agent")
    for _ in range(3):
        await lines.write()
    assert writes == [1 + MAX_COMMANDS + MAX_AGENTS - 2, 2]
    async with await connect(api.database_url) as conn:
        rows = await (await conn.execute("select kind, title from onsembl.turn_progress")).fetchall()
    assert [tuple(row.values()) for row in rows] == [("output", "line 999")]
    assert (await call_api(admin, "GET", "/v1/commands"))["last_lines"] == {command["id"]: "line 999"}
