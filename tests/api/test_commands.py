"""Commands: repeated requests, the order and edits of a queue, its expected starts, and the history."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from uuid import uuid4

import pytest
from support.agents import Operator, agent_running
from support.api_calls import audit_entries, call_api
from support.frames import HELLO_TEXT, next_message
from support.server import Api, running

from onsembl.protocol.states import Role


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


async def order(operator: Operator, agent_id: str) -> list[str]:
    """The texts of the queue's commands, in the order in which they run."""
    line = (await call_api(operator, "GET", f"/v1/agents/{agent_id}/queue"))["waiting"]
    return [(await call_api(operator, "GET", f"/v1/commands/{waiting['command_id']}"))["text"] for waiting in line]


async def test_a_repeated_request_makes_nothing_new(api, admin):
    """A request repeated with its key, later or at once, creates no second command; the key is rejected for another
    request."""
    agent = await api.enrol()
    path, key = f"/v1/agents/{agent.id}/commands", {"Idempotency-Key": str(uuid4())}
    answers = await asyncio.gather(*(call_api(admin, "POST", path, {"text": "true"}, 201, **key) for _ in range(5)))
    assert len({answer["id"] for answer in answers}) == 1
    await call_api(admin, "POST", path, {"text": "false"}, 422, **key)
    assert len((await call_api(admin, "GET", f"/v1/commands?agent_id={agent.id}"))["commands"]) == 1
    other = Operator(api, await api.operator(Role.OPERATOR))
    assert (await call_api(other, "POST", path, {"text": "true"}, 201, **key))["id"] != answers[0]["id"]
    await call_api(admin, "POST", path, {"text": "true"}, 400, **{"Idempotency-Key": "x" * 256})
    body = {"text": "true", "target": {"all": True}}
    groups = [await call_api(admin, "POST", "/v1/groups", body, 201, **{"Idempotency-Key": "g"}) for _ in range(2)]
    assert groups[0] == groups[1]


async def test_a_queue_is_reordered_and_runs_in_that_order(api, admin):
    """A command moves to the first or last place or before or after another, across priorities; new commands come
    behind."""
    agent = await api.enrol()
    sent = {
        text: await admin.send(agent.id, text, priority=priority)
        for text, priority in zip("abcd", (5, 5, 5, 7), strict=True)
    }

    async def move(text: str, **body: str) -> dict:
        return await call_api(admin, "POST", f"/v1/commands/{sent[text]['id']}/move", body)

    assert await order(admin, agent.id) == list("abcd")
    await move("c", to="first")
    assert await order(admin, agent.id) == list("cabd")
    await move("a", to="after", other=sent["d"]["id"])
    assert await order(admin, agent.id) == list("cbda")
    assert (await move("b", to="before", other=sent["a"]["id"]))["priority"] == 7
    await move("c", to="last")
    sent["e"] = await admin.send(agent.id, "e", priority=7)
    assert await order(admin, agent.id) == list("dbace")
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        assert (await next_message(socket, "offer"))["command_id"] == sent["d"]["id"]
        await call_api(admin, "POST", f"/v1/commands/{sent['d']['id']}/move", {"to": "last"}, 409)
        await call_api(admin, "POST", f"/v1/commands/{sent['a']['id']}/move", {"to": "before"}, 422)
    assert {action for action, _ in await audit_entries(api, "command.moved")} == {"command.moved"}


async def test_a_queued_command_is_edited_and_a_running_one_is_not(api, admin):
    """A queued command is edited, with a revision only if it is current, and audited; a running command is not."""
    agent = await api.enrol()
    command = await admin.send(agent.id, "ehco hello")
    path = f"/v1/commands/{command['id']}"
    edited = await call_api(admin, "PATCH", path, {"text": "echo hello", "priority": 3, "revision": 0})
    assert (edited["text"], edited["priority"], edited["revision"]) == ("echo hello", 3, 1)
    late = await call_api(admin, "PATCH", path, {"text": "echo late", "note": "lost", "revision": 0}, 409)
    assert late["revision"] == 1
    assert (await admin.read(command))["note"] == "", "nothing of what was refused is done"
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        assert (await next_message(socket, "offer"))["text"] == "echo hello"
        refused = await call_api(admin, "PATCH", path, {"text": "echo again"}, 409)
        assert refused["state"] == "dispatched"
    [(_, detail)] = await audit_entries(api, "command.edited")
    assert detail == {"text": ["ehco hello", "echo hello"], "priority": [5, 3]}


async def test_a_queue_estimates_when_each_command_starts(api, admin, tmp_path):
    """A queue shows the expected start of each command, and shows none while the agent is paused."""
    async with agent_running(api, tmp_path) as agent:
        await admin.until_state(await admin.send(agent.id, "true"), "succeeded")
        await admin.until_state(await admin.send(agent.id, "sleep 1000"), "running")
        for _ in range(3):
            await admin.send(agent.id, "true")
        line = await call_api(admin, "GET", f"/v1/agents/{agent.id}/queue")
        assert [waiting["ahead"] for waiting in line["waiting"]] == [0, 1, 2]
        starts = [waiting["starts_in"] for waiting in line["waiting"]]
        assert starts == sorted(starts) and starts[1] - starts[0] == pytest.approx(line["typical_seconds"])
        await call_api(admin, "POST", f"/v1/agents/{agent.id}/pause", {})
        line = await call_api(admin, "GET", f"/v1/agents/{agent.id}/queue")
        assert {waiting["starts_in"] for waiting in line["waiting"]} == {None}
        await call_api(admin, "POST", f"/v1/agents/{agent.id}/cancel-all", {}, 202)


async def test_a_queue_is_read_by_its_old_path_for_one_release(api, admin):
    """The path `/line` of the last release returns the queue, although the OpenAPI document does not name this path."""
    agent = await api.enrol()
    await admin.send(agent.id, "true")
    queue = await call_api(admin, "GET", f"/v1/agents/{agent.id}/queue")
    assert len(queue["waiting"]) == 1
    assert await call_api(admin, "GET", f"/v1/agents/{agent.id}/line") == queue


async def test_history_is_filtered_searched_and_read_page_by_page(api, admin):
    """History is filtered by agent, state, tag, person, time and words; operators, not viewers, edit notes and tags."""
    one, two = await api.enrol("one"), await api.enrol("two")
    operator = Operator(api, await api.operator(Role.OPERATOR))
    sent = [await admin.send(one.id, f"make build-{n}") for n in range(5)]
    theirs = await operator.send(two.id, "pytest -k slow")
    await admin.cancel(sent[0])
    noted = await call_api(
        admin, "PATCH", f"/v1/commands/{sent[0]['id']}", {"note": "flaky on arm", "tags": ["ci", "arm64", "ci"]}
    )
    assert (noted["note"], noted["tags"]) == ("flaky on arm", ["ci", "arm64"])

    async def found(query: str) -> list[str]:
        texts: list[str] = []
        page: dict = {"next_before": None}
        while True:
            before = f"&before={page['next_before']}" if page["next_before"] else ""
            page = await call_api(admin, "GET", f"/v1/commands?limit=2&{query}{before}")
            texts += [command["text"] for command in page["commands"]]
            if page["next_before"] is None:
                return texts

    assert await found(f"agent_id={one.id}") == [f"make build-{n}" for n in (4, 3, 2, 1, 0)]
    assert await found("state=cancelled,failed") == ["make build-0"]
    assert await found("tag=arm64") == ["make build-0"]
    assert await found("by=operator@") == ["pytest -k slow"]
    assert await found("q=MAKE build-3") == ["make build-3"]
    assert await found("q=flaky") == ["make build-0"]
    assert await found("q=100%25") == []
    since = theirs["created_at"].replace("+", "%2B")
    assert await found(f"since={since}") == ["pytest -k slow"]
    assert (await call_api(admin, "GET", "/v1/tags"))["tags"] == [
        {"tag": "arm64", "count": 1},
        {"tag": "ci", "count": 1},
    ]
    for query in ("state=gone", "since=2026-01-01T00:00:00", "tag=%20"):
        await call_api(admin, "GET", f"/v1/commands?{query}", status=400)
    viewer = Operator(api, await api.operator(Role.VIEWER))
    await call_api(viewer, "PATCH", f"/v1/commands/{sent[0]['id']}", {"note": "mine"}, 403)


async def test_a_command_is_at_its_agent_as_soon_as_it_is_promoted(settings):
    """A promoted command is offered to its agent before its job runs, and the next one after the previous command's
    end."""
    async with running(replace(settings, worker=None)) as api:
        operator = Operator(api, await api.operator())
        agent = await api.enrol()
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")
            sent = [await operator.send(agent.id, text) for text in ("first", "second")]
            for command in sent:
                offer = await next_message(socket, "offer")
                assert (offer["command_id"], offer["text"]) == (command["id"], command["text"])
                end = {"type": "ended", "command_id": command["id"], "outcome": "succeeded"}
                await socket.send(json.dumps({**end, "ended_at": "2026-01-02T00:00:00Z"}))
                assert (await next_message(socket, "end_recorded"))["command_id"] == command["id"]
