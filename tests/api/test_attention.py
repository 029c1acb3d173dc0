"""What agents ask of a person: seen, answered once, delivered, and kept. The agent is a bare socket."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest
from support.agents import Operator, until
from support.api_calls import audit_entries, call_api
from support.asking_agents import RUN, connected, running
from support.command_line import CommandLine
from support.frames import next_message
from support.server import Api

from onsembl.protocol.attention_messages import (
    FormBody,
    PlanBody,
    Question,
    QuestionBody,
    QuestionOption,
)
from onsembl.protocol.states import Role
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker

ASK = QuestionBody(
    questions=[
        Question(id="which", text="Which?", options=[QuestionOption(label="a"), QuestionOption(label="b")]),
        Question(id="token", text="The token?", secret=True),
    ]
)
ALLOW = {"decision": "allow"}


@pytest.fixture
async def operator(api: Api) -> Operator:
    return Operator(api, await api.operator(Role.OPERATOR))


async def listed(operator: Operator, query: str = "state=open") -> list[dict]:
    return (await call_api(operator, "GET", f"/v1/attention?{query}"))["requests"]


async def until_state(operator: Operator, id: str, **wanted: object) -> dict:
    async def there():
        response = await operator.api.http.get(f"/v1/attention/{id}", headers=operator.headers)
        row = response.json()
        return row if response.is_success and {name: row[name] for name in wanted} == wanted else None

    return await until(there, f"the request has {wanted}")


def body_of(asked: dict, **fields: object) -> dict:
    return {"digest": asked["digest"], "decision": ALLOW, **fields}


async def test_a_request_is_answered_once(api, operator):
    """The first answer is given to the CLI and audited with what it was for; a second one is told who was first. A
    viewer only looks."""
    viewer = Operator(api, await api.operator(Role.VIEWER))
    async with running(api, operator) as agent:
        asked = await agent.ask()
        row = await until_state(operator, asked["request_id"], state="open")
        assert (row["kind"], row["title"], row["body"]["input"]) == ("permission", "npm test", RUN.input)
        assert [one["id"] for one in await listed(viewer)] == [row["id"]]
        path = f"/v1/attention/{row['id']}/answer"
        await call_api(viewer, "POST", path, body_of(asked), 403)
        for body in (
            {**body_of(asked), "digest": "0" * 64},
            body_of(asked, decision={"decision": "form", "content": "{}"}),
            body_of(asked, rule="Bash(npm *)"),
            body_of(asked, scope="always", rule="*"),
            body_of(asked, scope="always", decision={"decision": "deny"}),
            body_of(asked, decision={"decision": "later"}),
            {"decision": ALLOW},
        ):
            response = await api.http.post(path, json=body, headers=operator.headers)
            assert response.status_code in (409, 422), body
        assert (await until_state(operator, row["id"], state="open"))["decision"] is None
        changed = {"decision": "allow", "input": '{"command":"npm test -- --watch=false"}', "cli_rule": None}
        answered = await call_api(operator, "POST", path, body_of(asked, decision=changed))
        assert (answered["state"], answered["answered_by_name"]) == ("answered", "operator@example.org")
        answer = await agent.answer()
        assert (answer["decision"], answer["by"]) == (changed, "operator@example.org")
        problem = await call_api(operator, "POST", path, body_of(asked), 409)
        assert "answered by operator@example.org" in problem["detail"] and problem["state"] == "answered"
        await agent.taken(answer)
        await until_state(operator, row["id"], delivery="given")
        assert await listed(operator) == []
        await agent.end()
    [(_, detail)] = await audit_entries(api, "attention.%")
    assert (detail["digest"], detail["by"], detail["decision"]) == (asked["digest"], "operator", changed)
    assert json.loads(detail["asked"])["input"] == RUN.input


async def test_answers_of_two_at_the_same_moment(api, operator):
    """Of many answers to one request exactly one counts, and reaches the CLI."""
    other = Operator(api, await api.operator(Role.OPERATOR))
    async with running(api, operator) as agent:
        for _ in range(5):
            asked = await agent.ask()
            await until_state(operator, asked["request_id"], state="open")
            path = f"/v1/attention/{asked['request_id']}/answer"
            bodies = [body_of(asked), body_of(asked, decision={"decision": "deny", "reason": "no"})] * 4
            responses = await asyncio.gather(
                *(
                    api.http.post(path, json=body, headers=one.headers)
                    for body, one in zip(bodies, [operator, other] * 4, strict=True)
                )
            )
            assert sorted(response.status_code for response in responses) == [200] + [409] * 7
            (first,) = [response.json() for response in responses if response.is_success]
            answer = await agent.answer()
            assert answer["decision"] == first["decision"]
            await agent.taken(answer)
            await until_state(operator, asked["request_id"], delivery="given")
    assert len(await audit_entries(api, "attention.answered")) == 5


async def test_an_answer_waits_for_the_agent(api, operator):
    """A request stays open while its agent is away; an answer is given when it is back, and repeated until the agent
    says what became of it. What the agent does not name any more is withdrawn."""
    agent = await api.enrol("one", "claude")
    async with running(api, operator, agent=agent) as asking:
        kept, gone = await asking.ask(), await asking.ask()
        for asked in (kept, gone):
            await until_state(operator, asked["request_id"], state="open")
        command = asking.command
    await call_api(operator, "POST", f"/v1/attention/{kept['request_id']}/answer", body_of(kept))
    for _ in range(2):  # its `answer_taken` is lost the first time
        async with connected(api, agent, command, [kept["request_id"]]) as asking:
            await asking.ask(id=kept["request_id"])
            answer = await asking.answer()
            assert answer["request_id"] == kept["request_id"]
            assert (await until_state(operator, kept["request_id"], state="answered"))["delivery"] == "waiting"
            withdrawn = await until_state(operator, gone["request_id"], state="withdrawn")
            assert "does not wait" in withdrawn["reason"]
    async with connected(api, agent, command) as asking:
        await asking.taken(await asking.answer(), "late")
        await until_state(operator, kept["request_id"], delivery="late")
        await asking.end()


async def test_an_answer_of_which_nobody_told_the_agent_is_sent(api, operator):
    """An answer whose notification is lost is sent after a heartbeat of the instance; one that cannot be read harms
    only itself."""
    async with running(api, operator) as agent:
        unreadable, asked = await agent.ask(), await agent.ask()
        for one in (unreadable, asked):
            await until_state(operator, one["request_id"], state="open")
        async with await connect(api.database_url, autocommit=True) as conn:
            for one, decision in ((unreadable, "later"), (asked, "allow")):
                await conn.execute(
                    """update onsembl.attention
                       set state = 'answered', delivery = 'waiting', answered_by_kind = 'operator',
                           answered_by_name = 'ann', decision = jsonb_build_object('decision', %s::text),
                           closed_at = now() - interval '1 minute'
                       where id = %s""",
                    [decision, one["request_id"]],
                )
        answer = await agent.answer()
        assert (answer["request_id"], answer["decision"]["decision"]) == (asked["request_id"], "allow")


async def test_the_command_line_lists_and_answers(api, operator, tmp_path):
    """An operator finds, shows and answers requests by the command line; the second answer exits with 1."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    async with running(api, operator) as agent:
        asked, question = await agent.ask(), await agent.ask(ASK, title="Which?")
        await until_state(operator, question["request_id"], state="open")
        out, _ = await run("attention", "list", "--agent", "one")
        assert [line.split()[0] for line in out.splitlines()] == [asked["request_id"], question["request_id"]]
        await api.enrol("alone")
        out, _ = await run("agents", "list")
        assert [line.split()[0] for line in out.splitlines()] == ["one", "waits", "alone"]
        assert "npm test (permission)" in out
        out, _ = await run("agents", "list", "--json")
        assert {agent["name"]: (agent["waits"] or {}).get("id") for agent in json.loads(out)} == {
            "one": asked["request_id"],
            "alone": None,
        }
        out, _ = await run("attention", "watch", "--count", "2", "--json")
        assert [json.loads(line)["title"] for line in out.splitlines()] == ["npm test", "Which?"]
        out, _ = await run("attention", "show", asked["request_id"])
        assert '{"command":"npm test"}' in out and "Bash(npm *)" in out
        await run("attention", "answer", asked["request_id"], "--allow", "--scope", "conversation")
        answer = await agent.answer()
        assert answer["decision"] == {"decision": "allow", "input": None, "cli_rule": None}
        await agent.taken(answer)
        await until_state(operator, asked["request_id"], delivery="given")
        _, problem = await run("attention", "answer", asked["request_id"], "--deny", "--reason", "no", code=1)
        assert "answered by" in problem
        await run("attention", "answer", question["request_id"], "--answer", "a", code=1)
        await run("attention", "answer", question["request_id"], "--answer", "which=a", "--answer", "token=x")
        answer = await agent.answer()
        assert answer["decision"]["answers"] == [
            {"id": "which", "answers": ["a"]},
            {"id": "token", "answers": ["x"]},
        ]
        out, _ = await run("attention", "list")
        assert out == ""


async def test_what_changes_is_asked_again(api, operator):
    """A request that comes again with another digest replaces what was asked: an answer to the former one is
    refused."""
    async with running(api, operator) as agent:
        asked = await agent.ask()
        await until_state(operator, asked["request_id"], state="open")
        other = msgspec.structs.replace(RUN, input='{"command":"rm -rf /"}')
        again = await agent.ask(other, id=asked["request_id"], title="rm -rf /")
        await until_state(operator, asked["request_id"], digest=again["digest"])
        path = f"/v1/attention/{asked['request_id']}/answer"
        assert "something else" in (await call_api(operator, "POST", path, body_of(asked), 409))["detail"]
        await agent.tell(type="withdrawn", request_id=asked["request_id"], command_id=agent.command["id"], reason="why")
        assert (await until_state(operator, asked["request_id"], state="withdrawn"))["reason"] == "why"
        assert "withdrawn: why" in (await call_api(operator, "POST", path, body_of(again), 409))["detail"]


@pytest.mark.parametrize("way", ["end", "cancel of a lost agent"])
async def test_a_command_that_ends_waits_for_nobody(api, operator, way):
    """The end of a command, however it is recorded, withdraws its open requests, and its answers come too late."""
    async with running(api, operator) as agent:
        still, answered = await agent.ask(), await agent.ask(ASK)
        for asked in (still, answered):
            await until_state(operator, asked["request_id"], state="open")
        answers = [{"id": "which", "answers": ["a"]}, {"id": "token", "answers": ["s3cret"]}]
        body = body_of(answered, decision={"decision": "answers", "answers": answers})
        shown = await call_api(operator, "POST", f"/v1/attention/{answered['request_id']}/answer", body)
        assert "s3cret" not in json.dumps(shown)
        sent = await agent.answer()
        assert sent["decision"]["answers"][1]["answers"] == ["s3cret"]
        if way == "end":
            await agent.end()
        else:
            async with await connect(api.database_url, autocommit=True) as conn:
                await conn.execute("update onsembl.commands set state = 'lost', ended_at = now()")
        await until_state(operator, still["request_id"], state="withdrawn", reason="The command has ended.")
        row = await until_state(operator, answered["request_id"], delivery="unknown")
        assert row["decision"]["answers"][1]["answers"] == ["•••"]
        late = await agent.ask()
        refusal = await agent.answer()
        assert (refusal["request_id"], refusal["digest"]) == (late["request_id"], late["digest"])
        assert refusal["decision"]["decision"] == "deny", "the agent would wait for ever"
        await call_api(operator, "GET", f"/v1/attention/{late['request_id']}", status=404)
        given = [{"request_id": answered["request_id"], "digest": answered["digest"]}]
        await agent.tell(type="open_requests", requests=[], given=given)
        await until_state(operator, answered["request_id"], delivery="given")
    async with await connect(api.database_url) as conn:
        rows = await (await conn.execute("select row_to_json(a)::text as t from onsembl.attention a")).fetchall()
        rows += await (await conn.execute("select detail::text as t from onsembl.audit")).fetchall()
    assert "s3cret" not in "".join(row["t"] for row in rows)


async def test_a_rule_answers_later_requests(api, operator):
    """“In this conversation” and “always” answer later requests like it, marked so and audited; another call waits, and
    without the rule everything does."""
    agent = await api.enrol("one", "claude")
    async with running(api, operator, agent=agent) as asking:
        asked = await asking.ask()
        await until_state(operator, asked["request_id"], state="open")
        path = f"/v1/attention/{asked['request_id']}/answer"
        await call_api(operator, "POST", path, body_of(asked, scope="conversation", rule="Bash(npm *)"))
        await asking.taken(await asking.answer())
        like = msgspec.structs.replace(RUN, input='{"command":"npm ci"}', said=["npm ci"], parts=[["npm ci"]])
        again = await asking.ask(like)
        row = await until_state(operator, again["request_id"], state="answered")
        assert (row["answered_by_kind"], row["answered_by_name"]) == ("rule", "the rule Bash(npm *)")
        answer = await asking.answer()
        assert (answer["decision"]["decision"], answer["by"]) == ("allow", "the rule Bash(npm *)")
        await asking.taken(answer)
        both = msgspec.structs.replace(RUN, said=["npm ci", "rm x"], parts=[["npm ci"], ["rm x"]])
        for other in (both, ASK, PlanBody(plan="# Do it")):
            await until_state(operator, (await asking.ask(other))["request_id"], state="open")
        await asking.end()
    (rule,) = (await call_api(operator, "GET", f"/v1/attention/rules?agent_id={agent.id}"))["rules"]
    assert (rule["rule"], rule["conversation_id"]) == ("Bash(npm *)", row["conversation_id"])
    command = await operator.send(agent.id, "another", conversation="new")
    async with connected(api, agent, command) as asking:
        asked = await asking.ask(like)
        await until_state(operator, asked["request_id"], state="open")
        answers = [
            {"id": asked["request_id"], **body_of(asked, scope="always")},
            {"id": asked["request_id"], **body_of(asked)},
            {"id": str(uuid4()), **body_of(asked)},
        ]
        results = (await call_api(operator, "POST", "/v1/attention/answers", {"answers": answers}))["results"]
        assert [result["problem"] is None for result in results] == [True, False, False]
        assert results[1]["request"]["state"] == "answered" and results[2]["request"] is None
        await asking.taken(await asking.answer())
        await asking.end()
    rules = (await call_api(operator, "GET", "/v1/attention/rules"))["rules"]
    assert [one["rule"] for one in rules] == ["Bash(npm test)", "Bash(npm *)"]
    for one in rules:
        await call_api(operator, "DELETE", f"/v1/attention/rules/{one['id']}")
    command = await operator.send(agent.id, "and more", conversation="latest")
    async with connected(api, agent, command) as asking:
        await until_state(operator, (await asking.ask())["request_id"], state="open")
    actions = [(action, detail.get("rule")) for action, detail in await audit_entries(api, "attention.%")]
    assert ("attention.answered", "Bash(npm *)") in actions
    assert actions[-2:] == [("attention.rule_deleted", "Bash(npm test)"), ("attention.rule_deleted", "Bash(npm *)")]


async def test_a_failed_turn_leaves_a_note(api, operator, tmp_path):
    """A turn that fails, and a command that is lost, leave one note for each conversation, which is dismissed once and
    for which nobody waits."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    viewer = Operator(api, await api.operator(Role.VIEWER))
    agent = await api.enrol("one", "claude")
    async with running(api, operator, agent=agent) as asking:
        await asking.ask()
        await asking.end("failed", error="The model is gone.")
        (note,) = await listed(operator)
        assert (note["kind"], note["title"]) == ("failed", "do it")
        assert note["body"] == {"kind": "failed", "state": "failed", "text": "The model is gone."}
        out, _ = await run("agents", "list")
        assert "waits" not in out
        path = f"/v1/attention/{note['id']}"
        await call_api(viewer, "POST", path + "/dismiss", status=403)
        problem = await call_api(operator, "POST", path + "/answer", body_of(note), 422)
        assert "dismiss" in problem["detail"]
        out, _ = await run("attention", "show", note["id"])
        assert "The model is gone." in out and "attention dismiss" in out
    command = await operator.send(agent.id, "again", conversation="latest")
    async with connected(api, agent, command) as asking:
        asked = await asking.ask()
        await until_state(operator, asked["request_id"], state="open")
        assert {row["kind"] for row in await listed(operator)} == {"permission", "failed"}, "the agent still has a note"
        await call_api(operator, "POST", f"/v1/attention/{asked['request_id']}/dismiss", status=422)
        async with await connect(api.database_url, autocommit=True) as conn:
            await conn.execute("update onsembl.commands set state = 'lost' where id = %s", [command["id"]])
    (lost,) = await listed(operator)
    assert (lost["title"], lost["body"]["state"]) == ("again", "lost")
    assert "later command" in (await until_state(operator, note["id"], state="withdrawn"))["reason"]
    await run("attention", "dismiss", lost["id"])
    problem = await call_api(operator, "POST", f"/v1/attention/{lost['id']}/dismiss", status=409)
    assert "Dismissed by operator@example.org" in problem["detail"]
    assert [action for action, _ in await audit_entries(api, "attention.%")] == ["attention.dismissed"]


@pytest.mark.parametrize("way", ["told", "steered", "next_command"])
async def test_the_reason_of_a_denial_reaches_the_agent(api, operator, way, tmp_path):
    """A CLI that is not told it gets it as a text for its turn, in the transaction of the answer; the turn may take it.
    Else it is the next command of the conversation, before the others in the queue. The command line says which."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    async with running(api, operator, takes_steers=way == "steered") as agent:
        started = {"started_at": datetime.now(UTC).isoformat(), "output_start": 0}
        await agent.tell(type="accepted", command_id=agent.command["id"], **started)
        await operator.until_state(agent.command, "running")
        asked = await agent.ask(msgspec.structs.replace(RUN, reason_way=way))
        await until_state(operator, asked["request_id"], state="open")
        queued = await operator.send(agent.agent.id, "later", conversation="latest")
        out, _ = await run("attention", "answer", asked["request_id"], "--deny", "--reason", "Not now.")
        said = {"told": "", "steered": "goes into the running turn", "next_command": "next command of the conversation"}
        assert said[way] in out and ("takes no reason" in out) == (way != "told")
        answer = await agent.answer()
        assert answer["decision"] == {"decision": "deny", "reason": "Not now.", "cancel": False}
        if way == "told":
            return
        if way == "steered":
            steer = await next_message(agent.socket, "steer")
            await agent.tell(type="steered", command_id=agent.command["id"], steer_id=steer["steer_id"], step=1)
        await agent.end(steers=[])
        listed = (await call_api(operator, "GET", f"/v1/commands?agent_id={agent.agent.id}"))["commands"]
        [reason] = [row for row in listed if row["text"] == "Denied: npm test\nNot now."]
        assert (reason["state"], reason["steer_state"]) == (
            ("succeeded", "taken") if way == "steered" else ("dispatched", "late")
        )
        assert reason["conversation_id"] == agent.command["conversation_id"]
        assert (await operator.read(queued))["state"] == ("dispatched" if way == "steered" else "queued")


async def test_a_form_is_declined_or_closed(api, operator, tmp_path):
    """Only a form is closed without an answer; it is filled in with a JSON object."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    form = FormBody(server="deploy", message="Where?", schema="{}")
    async with running(api, operator) as agent:
        for options, given in (
            (("--cancel",), {"decision": "deny", "reason": "", "cancel": True}),
            (("--deny",), {"decision": "deny", "reason": "", "cancel": False}),
            (("--form", '{"a": 1}'), {"decision": "form", "content": '{"a": 1}'}),
        ):
            asked = await agent.ask(form, title="deploy: Where?")
            await until_state(operator, asked["request_id"], state="open")
            await run("attention", "answer", asked["request_id"], *options)
            answer = await agent.answer()
            assert answer["decision"] == given
            await agent.taken(answer)
        asked = await agent.ask()
        await until_state(operator, asked["request_id"], state="open")
        _, problem = await run("attention", "answer", asked["request_id"], "--cancel", code=1)
        assert "Only a form can be closed" in problem
