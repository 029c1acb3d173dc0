"""The problem of an agent that cannot work, as on a full disk, from its message to its row, alert and audit entries."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from support.agents import Operator, until
from support.api_calls import audit_entries, call_api
from support.cases import cases
from support.command_line import CommandLine
from support.frames import HELLO, close_code, next_message

from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import AgentProblem
from onsembl.sql import agents, commands

pytestmark = pytest.mark.no_worker
FULL = "The agent cannot write its journal: no space left"


async def greet(socket, **fields) -> dict:
    await socket.send(json.dumps({**HELLO, **fields}))
    return await next_message(socket, "welcome")


async def tell(socket, number: int, problem: str | None) -> None:
    """Report a problem, or its end, and wait until the server has read it."""
    await socket.send(json.dumps({"type": "problem", "problem": problem, "number": number}))


@pytest.fixture
async def operator(api) -> Operator:
    return Operator(api, await api.operator())


async def row_of(operator: Operator, agent_id: str) -> dict:
    return await call_api(operator, "GET", f"/v1/agents/{agent_id}", None, 200)


async def until_problem(operator: Operator, agent_id: str, problem: str | None) -> dict:
    async def told() -> dict | None:
        row = await row_of(operator, agent_id)
        return row if row["problem"] == problem else None

    return await until(told, f"the problem {problem}")


async def alerts_of(operator: Operator) -> list[dict]:
    return (await call_api(operator, "GET", "/v1/alerts", None, 200))["alerts"]


async def test_a_problem_begins_and_is_over(api, agent, operator):
    """The offered command is back in its queue, and nothing is offered until the problem is over. There is one alert;
    the beginning and the end are audited."""
    async with api.agent_socket(agent) as socket:
        welcome = await greet(socket)
        assert welcome["takes_problems"]
        command = await operator.send(agent.id, "first")
        assert (await next_message(socket, "offer"))["problems"] == 0
        await tell(socket, 1, FULL)
        row = await until_problem(operator, agent.id, FULL)
        assert (row["status"], row["problem_since"] is None) == ("online", False)
        await operator.until_state(command, "queued")
        second = await operator.send(agent.id, "second", priority=1)
        async with api.services.pool.connection() as conn:
            await agents.lock(conn, AgentId(UUID(agent.id)))
            assert await commands.promote(conn, AgentId(UUID(agent.id))) is None
            assert await commands.idle_queues(conn) == []
        await tell(socket, 2, "another text")
        assert (await until_problem(operator, agent.id, "another text"))["problem_since"] == row["problem_since"]
        for each in (command, second):
            read = await operator.read(each)
            assert (read["state"], read["delivery_attempts"]) == ("queued", 0)
        await tell(socket, 3, None)
        offer = await next_message(socket, "offer")
        assert (offer["command_id"], offer["problems"]) == (second["id"], 3)
        row = await until_problem(operator, agent.id, None)
        assert row["problem_since"] is None
    text = f"one takes no command: {FULL}"
    assert [(alert["kind"], alert["agent_id"], alert["text"]) for alert in await alerts_of(operator)] == [
        ("agent_problem", agent.id, text)
    ]
    entries = await audit_entries(api, "agent.problem%")
    assert [(action, detail["problem"]) for action, detail in entries] == [
        ("agent.problem_begun", FULL),
        ("agent.problem_over", "another text"),
    ]


async def test_the_command_line_shows_a_problem(api, agent, tmp_path):
    """The list and the agent's own command name it."""
    admin = await api.operator()
    line = CommandLine(api, admin, tmp_path)
    async with api.agent_socket(agent) as socket:
        await greet(socket, problem=FULL)
        for arguments in (("list",), ("show", "one")):
            shown, _ = await line.run("agents", *arguments)
            assert "problem" in shown.split()
            assert f"takes no command: {FULL}\n" in shown


async def test_a_hello_has_the_problem_of_that_time(api, agent, operator):
    """It begins and ends with a connection, too; an agent of an earlier release has none. While an alert about it is
    unacknowledged, no second one is raised."""
    command = await operator.send(agent.id, "first")
    for problem in (FULL, None, FULL, None):
        async with api.agent_socket(agent) as socket:
            await greet(socket, **({"problem": problem} if problem else {}))
            assert (await row_of(operator, agent.id))["problem"] == problem
            read = await operator.until_state(command, "queued" if problem else "dispatched")
            assert read["delivery_attempts"] == 0
    assert len(await alerts_of(operator)) == 1
    actions = [action for action, _ in await audit_entries(api, "agent.problem%")]
    assert actions == ["agent.problem_begun", "agent.problem_over"] * 2


async def test_a_command_whose_cancel_was_requested_ends_with_the_problem(api, agent, operator):
    """It never ran, so it is cancelled, and its end is audited like each other end."""
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        command = await operator.send(agent.id, "first")
        await next_message(socket, "offer")
        await operator.cancel(command)
        await tell(socket, 1, FULL)
        await operator.until_state(command, "cancelled")
    (ended,) = await audit_entries(api, "command.ended")
    assert ended[1]["state"] == "cancelled"


async def test_a_running_command_goes_on_with_a_problem(api, agent, operator):
    """The problem withholds only what the agent has not accepted."""
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        command = await operator.send(agent.id, "first")
        await next_message(socket, "offer")
        accepted = {"type": "accepted", "command_id": command["id"], "started_at": "2026-01-02T00:00:00Z"}
        await socket.send(json.dumps({**accepted, "output_start": 0}))
        await tell(socket, 1, FULL)
        await until_problem(operator, agent.id, FULL)
        assert (await operator.read(command))["state"] == "running"


async def test_an_older_connection_writes_no_problem(api, agent, operator):
    """Only the newest connection knows the agent's state."""
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        link = api.services.hub.links[AgentId(UUID(agent.id))]
        async with api.agent_socket(agent) as newer:
            await greet(newer)
            assert await close_code(socket) == CloseCode.SUPERSEDED
            await api.services.reports.write(link, AgentProblem(problem=FULL, number=1))
            assert (await row_of(operator, agent.id))["problem"] is None


@cases("problem", ["", "x" * 257, "ä" * 129, "\0", 7, []])
async def test_a_problem_outside_its_bounds_ends_the_connection(api, agent, problem):
    """It is a message that the protocol does not allow."""
    async with api.agent_socket(agent) as socket:
        await greet(socket)
        await tell(socket, 1, problem)
        assert await close_code(socket) == CloseCode.BAD_MESSAGE


async def test_an_agent_of_any_cli_names_it(api, operator):
    """The row of an agent of the kind `acp` has the program of its CLI, from its hello; a fork is refused at once if
    the CLI makes none, as the hello says. The id that the CLI has chosen for a conversation is on its row, and is not
    imported again."""
    agent = await api.enrol("helper", "acp")
    conversations = f"/v1/agents/{agent.id}/conversations"
    fork = f"/v1/conversations/{(await call_api(operator, 'POST', conversations, {'cli_id': 'c'}, 201))['id']}/fork"
    await call_api(operator, "POST", fork, {}, 201)
    async with api.agent_socket(agent) as socket:
        await greet(socket, kind="acp", cli="opencode", takes_forks=False)
        refused = await call_api(operator, "POST", fork, {}, 409)
        assert refused["detail"] == "The CLI of helper copies no conversations. Begin a new one."
        row = await row_of(operator, agent.id)
        assert (row["kind"], row["cli"]) == ("acp", "opencode")
        command = await operator.send(agent.id, "a prompt", model="m", conversation="latest")
        assert command["turn"]["permission_mode"] == "ask"
        await next_message(socket, "offer")
        now = datetime.now(UTC).isoformat()
        report = {"command_id": command["id"], "started_at": now, "output_start": 0}
        await socket.send(json.dumps({"type": "accepted", **report}))
        end = {"command_id": command["id"], "outcome": "succeeded", "ended_at": now}
        await socket.send(json.dumps({"type": "ended", **end, "turn": {"conversation": "own-1"}}))
        await next_message(socket, "end_recorded")
        path = f"/v1/conversations/{command['conversation_id']}"
        assert (await call_api(operator, "GET", path, None, 200))["own_id"] == "own-1"
        await call_api(operator, "POST", conversations, {"cli_id": "own-1"}, 409)
