"""`/v1/first-steps`: each of the first steps is ticked by the rows that doing it leaves."""

from __future__ import annotations

import json

import pytest
from support.agents import Operator, until
from support.api_calls import call_api
from support.asking_agents import running
from support.frames import HELLO, next_message

from onsembl.protocol.states import Role
from onsembl.sql.first_steps import DEMO_LABEL

pytestmark = pytest.mark.no_worker


async def done(operator: Operator) -> list[str]:
    steps = await call_api(operator, "GET", "/v1/first-steps")
    return [name for name, is_done in steps.items() if is_done]


async def test_each_step_is_ticked_by_doing_it(api):
    """An agent of the demo counts for the demo only, and an enrolled agent when it has connected. A viewer, who can do
    none of the steps, is not told."""
    admin = Operator(api, await api.operator())
    viewer = Operator(api, await api.operator(Role.VIEWER))
    await call_api(viewer, "GET", "/v1/first-steps", status=403)
    assert await done(admin) == []

    demo = await api.enrol("demo")
    await call_api(admin, "PUT", f"/v1/agents/{demo.id}/labels", {"labels": [DEMO_LABEL]})
    async with api.agent_socket(demo) as socket:
        await socket.send(json.dumps(HELLO))
        await next_message(socket, "welcome")
    own = await api.enrol("own", "claude")
    assert await done(admin) == ["demo_seen"]

    command = await admin.send(own.id, "do it")
    assert await done(admin) == ["demo_seen", "command_sent"]
    await call_api(admin, "POST", f"/v1/commands/{command['id']}/cancel", status=202)
    async with running(api, admin, agent=own) as agent:
        assert await done(admin) == ["demo_seen", "agent_connected", "command_sent"]
        asked = await agent.ask()

        async def answered() -> bool:
            answer = {"digest": asked["digest"], "decision": {"decision": "allow"}}
            path = f"/v1/attention/{asked['request_id']}/answer"
            return (await api.http.post(path, json=answer, headers=admin.headers)).is_success

        await until(answered, "the request is answered")
    assert await done(admin) == ["demo_seen", "agent_connected", "command_sent", "request_answered"]
