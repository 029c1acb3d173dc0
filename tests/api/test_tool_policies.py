"""Tools that an admin keeps for admins, or denies: who answers, what is denied, and for which agents."""

from __future__ import annotations

import json

import msgspec
import pytest
from support.agents import Operator, until
from support.api_calls import audit_entries, call_api
from support.asking_agents import RUN, connected, running
from support.command_line import CommandLine
from support.frames import HELLO, next_message
from support.server import Api

from onsembl.protocol.attention_messages import CliRule
from onsembl.protocol.states import Role

pytestmark = pytest.mark.no_worker

ALLOW = {"decision": "allow"}
FETCH = msgspec.structs.replace(RUN, tool="WebFetch", tool_kind="fetch", names=["WebFetch"], rules=["WebFetch"])


@pytest.fixture
async def operator(api: Api) -> Operator:
    return Operator(api, await api.operator(Role.OPERATOR))


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator(Role.ADMIN))


async def asked_in(operator: Operator, asked: dict, state: str) -> dict:
    async def there():
        path = f"/v1/attention/{asked['request_id']}"
        response = await operator.api.http.get(path, headers=operator.headers)
        return response.json() if response.is_success and response.json()["state"] == state else None

    row = await until(there, f"the request is {state}")
    assert isinstance(row, dict)
    return row


async def test_a_tool_is_kept_for_admins(api, operator, admin, tmp_path):
    """Only an admin answers, one call at a time; no rule of an operator does. The request says so to everybody, with
    who decided that. Without the policy everybody may."""
    agent = await api.enrol("one", "claude")
    async with running(api, operator, agent=agent) as asking:
        asked = await asking.ask()
        await asked_in(operator, asked, "open")
        path = f"/v1/attention/{asked['request_id']}/answer"
        always = {"digest": asked["digest"], "decision": ALLOW, "scope": "always", "rule": "Bash(npm *)"}
        await call_api(operator, "POST", path, always)
        await asking.taken(await asking.answer())
        policy = {"verdict": "admin", "rule": "Bash(npm *)"}
        await call_api(operator, "POST", "/v1/tool-policies", policy, 403)
        kept = await call_api(admin, "POST", "/v1/tool-policies", policy, 201)
        await call_api(admin, "POST", "/v1/tool-policies", policy, 409)
        asked = await asking.ask()
        await asked_in(operator, asked, "open")
        path = f"/v1/attention/{asked['request_id']}/answer"
        once = {"digest": asked["digest"], "decision": ALLOW}
        for decision in (ALLOW, {"decision": "deny"}):
            problem = await call_api(operator, "POST", path, {**once, "decision": decision}, 403)
            assert problem["type"] == "urn:onsembl:problem:for-admins"
            assert (problem["rule"], problem["by_name"]) == ("Bash(npm *)", kept["created_by_name"])
            assert (
                problem["detail"]
                == f"Only an admin answers this: {kept['created_by_name']} keeps Bash(npm *) for admins."
            )
        for row in (
            await asked_in(operator, asked, "open"),
            *(await call_api(operator, "GET", "/v1/attention?state=open"))["requests"],
        ):
            assert row["for_admins"] == {name: kept[name] for name in ("rule", "created_by_name")}
        cli = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
        shown, _ = await cli("attention", "show", asked["request_id"])
        assert problem["detail"].replace("answers this", "may answer") in shown
        listed, _ = await cli("attention", "list")
        assert "(admins only)" in listed
        _, refused = await cli("attention", "answer", asked["request_id"], "--allow", code=1)
        assert problem["detail"] in refused
        several = {"answers": [{"id": asked["request_id"], **once}]}
        (result,) = (await call_api(operator, "POST", "/v1/attention/answers", several))["results"]
        assert "Only an admin" in result["problem"]
        await call_api(admin, "POST", path, {**once, "scope": "always"}, 422)
        await asked_in(operator, asked, "open")
        await call_api(admin, "POST", path, once)
        assert (await asked_in(operator, asked, "answered"))["for_admins"] is None
        await asking.taken(await asking.answer())
        await call_api(operator, "DELETE", f"/v1/tool-policies/{kept['id']}", status=403)
        await call_api(admin, "DELETE", f"/v1/tool-policies/{kept['id']}")
        assert (await asked_in(operator, await asking.ask(), "answered"))["answered_by_kind"] == "rule"
    actions = [action for action, _ in await audit_entries(api, "tool_policy.%")]
    assert actions == ["tool_policy.created", "tool_policy.deleted"]


async def test_a_rule_that_the_cli_keeps_is_let_by_admins_alone(api, operator, admin):
    """By an answer for once that names it; an operator gets 403, and no rule of ours has the CLI keep one. The audit
    log has the rule and its file. It is not let for a tool that is kept for admins, of which each call is asked."""
    offer = CliRule(rule='prefix_rule(pattern=["npm"])', file="/home/dev/.codex/rules/default.rules")
    body = msgspec.structs.replace(RUN, tool="shell", names=["shell", "execute"], rules=["shell"], cli_rules=[offer])
    keep = {"decision": "allow", "cli_rule": offer.rule}
    agent = await api.enrol("one", "codex")
    async with running(api, operator, agent=agent) as asking:
        asked = await asking.ask(body)
        row = await asked_in(operator, asked, "open")
        assert row["body"]["cli_rules"] == [msgspec.to_builtins(offer)]
        path = f"/v1/attention/{asked['request_id']}/answer"
        once = {"digest": asked["digest"], "decision": keep}
        problem = await call_api(operator, "POST", path, once, 403)
        assert (problem["type"], problem["rule"]) == ("urn:onsembl:problem:for-admins", offer.rule)
        several = {"answers": [{"id": asked["request_id"], **once}]}
        (result,) = (await call_api(operator, "POST", "/v1/attention/answers", several))["results"]
        assert "Only an admin" in result["problem"]
        await call_api(admin, "POST", path, {**once, "decision": {**keep, "cli_rule": "another"}}, 422)
        await call_api(admin, "POST", path, {**once, "scope": "always", "rule": "shell"}, 422)
        policy = await call_api(admin, "POST", "/v1/tool-policies", {"verdict": "admin", "rule": "shell"}, 201)
        await call_api(admin, "POST", path, once, 422)
        await call_api(admin, "DELETE", f"/v1/tool-policies/{policy['id']}")
        await call_api(admin, "POST", path, once)
        answer = await asking.answer()
        assert answer["decision"]["cli_rule"] == offer.rule
        await asking.taken(answer)
        asked = await asking.ask(body)
        await asked_in(operator, asked, "open")
        always = {"digest": asked["digest"], "decision": ALLOW, "scope": "always", "rule": "shell"}
        await call_api(operator, "POST", f"/v1/attention/{asked['request_id']}/answer", always)
        await asking.taken(await asking.answer())
        await asked_in(operator, await asking.ask(body), "answered")
        assert (await asking.answer())["decision"] == {**ALLOW, "input": None, "cli_rule": None}
    details = [detail for _, detail in await audit_entries(api, "attention.answered")]
    assert [detail.get("cli_rule") for detail in details] == [msgspec.to_builtins(offer), None, None]


async def test_a_tool_is_denied(api, operator, admin, tmp_path):
    """For the agents with a label: a request is denied at once, and a turn that begins has the rule. Another agent is
    not concerned; it has a policy of its own. The command line lists, creates and deletes."""
    run = CommandLine(api, await api.operator(Role.ADMIN), tmp_path).run
    one, other = await api.enrol("one", "claude"), await api.enrol("other", "claude")
    await call_api(admin, "PUT", f"/v1/agents/{one.id}/labels", {"labels": ["production"]})
    await run("tool-policies", "create", "Bash(npm *)", "--deny", "--label", "production")
    await run("tool-policies", "create", "WebFetch", "--admin", "--agent", "other")
    out, _ = await run("tool-policies", "list", "--agent", "one", "--json")
    (policy,) = json.loads(out)
    assert (policy["rule"], policy["label"], policy["agent_id"]) == ("Bash(npm *)", "production", None)
    out, _ = await run("tool-policies", "list")
    assert "label production" in out and "agent other" in out
    for body, status in (
        ({"verdict": "deny", "rule": "Bash", "agent_id": one.id, "label": "x"}, 422),
        ({"verdict": "deny", "rule": "Bash", "agent_id": policy["id"]}, 404),
        ({"verdict": "deny", "rule": "Bash("}, 422),
    ):
        await call_api(admin, "POST", "/v1/tool-policies", body, status)
    async with running(api, operator, agent=one) as asking:
        row = await asked_in(operator, await asking.ask(RUN), "answered")
        assert (row["answered_by_name"], row["decision"]["decision"]) == ("the policy Bash(npm *)", "deny")
        answer = await asking.answer()
        assert answer["decision"]["decision"] == "deny"
        await asking.taken(answer)
        assert (await asked_in(operator, await asking.ask(FETCH), "open"))["for_admins"] is None
        await asking.end()
    async with api.agent_socket(one) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude", "takes_rules": True}))
        await next_message(socket, "welcome")
        await operator.send(one.id, "more")
        assert (await next_message(socket, "offer"))["turn"]["rules"]["deny"] == ["Bash(npm *)"]
    command = await operator.send(other.id, "do it")
    async with connected(api, other, command) as asking:
        await asked_in(operator, await asking.ask(RUN), "open")
        assert (await asked_in(operator, await asking.ask(FETCH), "open"))["for_admins"]["rule"] == "WebFetch"
    await run("tool-policies", "delete", policy["id"])
    assert [one["rule"] for one in (await call_api(operator, "GET", "/v1/tool-policies"))["policies"]] == ["WebFetch"]
