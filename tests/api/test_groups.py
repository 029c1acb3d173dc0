"""Groups: one command for several agents, selected by name, by label, or all."""

from __future__ import annotations

import pytest
from support.agents import Operator, agent_running
from support.api_calls import audit_entries, call_api
from support.cases import cases
from support.server import Api


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


async def test_a_broadcast_is_one_group_to_follow_and_cancel(api, admin, tmp_path):
    """A command for labelled agents is one group; cancelling the group cancels its running and queued commands."""
    async with agent_running(api, tmp_path, "one") as one, agent_running(api, tmp_path, "two") as two:
        away, other = await api.enrol("away"), await api.enrol("other")
        for agent_id in (one.id, two.id, away.id):
            await call_api(admin, "PUT", f"/v1/agents/{agent_id}/labels", {"labels": ["backend", "eu"]})
        await call_api(admin, "PUT", f"/v1/agents/{other.id}/labels", {"labels": ["backend"]})
        body = {"text": "sleep 1000", "priority": 2, "target": {"labels": ["eu", "backend"]}}
        group = await call_api(admin, "POST", "/v1/groups", body, 201)
        assert {command["agent_id"] for command in group["commands"]} == {one.id, two.id, away.id}
        assert {command["priority"] for command in group["commands"]} == {2}
        for command in group["commands"]:
            if command["agent_id"] != away.id:
                await admin.until_state(command, "running")
        listed = (await call_api(admin, "GET", "/v1/groups"))["groups"]
        assert [(row["id"], row["counts"]) for row in listed] == [(group["id"], {"running": 2, "queued": 1})]
        path = f"/v1/groups/{group['id']}"
        await call_api(admin, "POST", path + "/cancel", {"reason": "wrong branch"}, 202)
        for command in group["commands"]:
            assert (await admin.until_state(command, "cancelled"))["cancel_reason"] == "wrong branch"
        assert (await call_api(admin, "GET", path))["counts"] == {"cancelled": 3}
        assert await call_api(admin, "GET", f"/v1/commands?group_id={group['id']}&limit=2") != []
    actions = [action for action, _ in await audit_entries(api, "group.%")]
    assert actions == ["group.requested", "group.cancel_requested"]


@cases(
    ("target", "status"),
    [
        ({"agents": ["one", "nobody"]}, 404),
        ({"labels": ["nowhere"]}, 409),
        ({}, 422),
        ({"agents": ["one"], "all": True}, 422),
        ({"agents": []}, 422),
    ],
)
async def test_a_target_that_cannot_be_met_changes_nothing(admin, agent, target, status):
    """If a target is invalid or one of its agents does not exist, no agent gets the command."""
    await call_api(admin, "POST", "/v1/groups", {"text": "true", "target": target}, status)
    assert (await call_api(admin, "GET", f"/v1/commands?agent_id={agent.id}"))["commands"] == []
    assert (await call_api(admin, "GET", "/v1/groups"))["groups"] == []


async def test_all_means_every_enabled_agent(api, admin):
    """`all`, names and ids select agents, and `all` omits disabled agents."""
    one, two, out = [await api.enrol(name) for name in ("one", "two", "out")]
    await call_api(admin, "POST", f"/v1/agents/{out.id}/disable", {})
    group = await call_api(admin, "POST", "/v1/groups", {"text": "true", "target": {"all": True}}, 201)
    assert {command["agent_id"] for command in group["commands"]} == {one.id, two.id}
    named = await call_api(admin, "POST", "/v1/groups", {"text": "true", "target": {"agents": ["one", two.id]}}, 201)
    assert {command["agent_id"] for command in named["commands"]} == {one.id, two.id}
