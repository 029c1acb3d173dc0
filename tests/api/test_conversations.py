"""Conversations with coding CLIs: which one a prompt continues, and how they are renamed, forked and imported."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import audit_entries, call_api
from support.cases import cases
from support.claude import TRANSCRIPTS, put_claude_on_path
from support.command_line import CommandLine
from support.frames import HELLO, next_message
from support.server import Api

from onsembl.protocol.ids import CommandId
from onsembl.protocol.states import Role
from onsembl.sql.commands import get as command_row
from onsembl.sql.commands import undelivered
from onsembl.sql.database import connect

FORGOTTEN = (
    "Claude Code does not know this conversation any more. "
    "Begin a new one with its last answer: onsembl conversations anew CONVERSATION_ID"
)


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_claude_on_path(tmp_path, monkeypatch)


async def test_a_prompt_is_a_turn_of_a_conversation(api, admin, claude, tmp_path):
    """The CLI begins, continues and copies conversations by the ids that it is given."""
    async with agent_running(api, tmp_path, kind="claude") as agent:

        async def turn(text: str, **fields: str) -> tuple[dict, list[str]]:
            """The command's row at its end, and the arguments of the CLI that are of the conversation and the model."""
            row = await admin.until_state(await admin.send(agent.id, text, **fields), *FINAL)
            argv = json.loads((tmp_path / "called.json").read_text())["argv"]
            assert argv.count("--permission-mode=plan") == (fields.get("permission_mode") == "plan")
            names = ("--resume", "--session-id", "--fork-session", "--model", "--effort")
            return row, [argument for argument in argv if argument.startswith(names)]

        first, argv = await turn("tool\nand more")
        conversation = first["conversation_id"]
        path = f"/v1/conversations/{conversation}"
        read = await call_api(admin, "GET", path)
        assert argv == [f"--session-id={read['cli_id']}"]
        assert (read["title"], read["turns"], read["tokens"], read["state"]) == ("tool", 1, 232, "open")
        assert (read["model"], read["permission_mode"]) == ("claude-opus-4-8[1m]", "default")
        assert read["context_tokens"] > 0
        assert read["last_command_id"] == first["id"]

        settings = {"model": "opus", "effort": "high"}
        refused, argv = await turn("refused", conversation="latest", **settings)
        assert refused["conversation_id"] == conversation
        assert argv == [f"--resume={read['cli_id']}", "--model=opus", "--effort=high"]
        assert (refused["state"], refused["denied"]) == ("succeeded", 1)
        assert refused["denials"] == [{"tool": "Bash", "title": "touch /etc/x"}]

        other, argv = await turn("words")
        assert other["conversation_id"] != conversation
        assert argv[0].startswith("--session-id=")
        again, _ = await turn("words", conversation=conversation)
        assert again["conversation_id"] == conversation
        turns = await call_api(admin, "GET", f"/v1/commands?conversation_id={conversation}")
        assert [command["text"] for command in turns["commands"]] == ["words", "refused", "tool\nand more"]

        copy = await call_api(admin, "POST", path + "/fork", {"title": "A copy"}, 201)
        _, argv = await turn("words", conversation=copy["id"])
        assert argv == [f"--resume={read['cli_id']}", "--fork-session", f"--session-id={copy['cli_id']}"]
        _, argv = await turn("words", conversation=copy["id"])
        assert argv == [f"--resume={copy['cli_id']}"]

        taken = await call_api(admin, "POST", f"/v1/agents/{agent.id}/conversations", {"cli_id": "abc-1"}, 201)
        assert (taken["imported"], taken["title"]) == (True, "Imported abc-1")
        forgotten, argv = await turn("forgotten", conversation=taken["id"])
        assert argv == ["--resume=abc-1"]
        assert (forgotten["state"], forgotten["exit_code"]) == ("failed", 1)
        assert forgotten["error"] == FORGOTTEN
        assert (await call_api(admin, "GET", f"/v1/conversations/{taken['id']}"))["state"] == "forgotten"
        await call_api(
            admin, "POST", f"/v1/agents/{agent.id}/commands", {"text": "x", "conversation": taken["id"]}, 422
        )
        await call_api(admin, "POST", f"/v1/conversations/{taken['id']}/fork", {}, 409)
        await call_api(admin, "POST", f"/v1/conversations/{taken['id']}/anew", {}, 409)  # it has no answer
        latest, _ = await turn("words", conversation="latest")
        assert latest["conversation_id"] == copy["id"]

        await call_api(admin, "PATCH", path, {"title": "The old one"})
        listed = await call_api(admin, "GET", f"/v1/conversations?agent_id={agent.id}&q=old")
        assert [row["id"] for row in listed["conversations"]] == [conversation]
        page = await call_api(admin, "GET", "/v1/conversations?limit=2")
        assert [row["title"] for row in page["conversations"]] == ["Imported abc-1", "A copy"]
        rest = await call_api(admin, "GET", f"/v1/conversations?before={page['next_before']}")
        assert [row["title"] for row in rest["conversations"]] == ["words", "The old one"]
    actions = [action for action, _ in await audit_entries(api, "conversation.%")]
    assert actions == ["conversation.forked", "conversation.imported", "conversation.renamed"]


async def test_a_conversation_goes_on_after_a_cancel(api, admin, claude, tmp_path):
    """A cancelled turn is a turn of its conversation, which the next prompt continues."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        command = await admin.send(agent.id, "interrupted KEEP_ON")
        await admin.until_state(command, "running")
        await admin.cancel(command)
        assert (await admin.until_state(command, *FINAL))["state"] == "cancelled"
        command = await admin.until_state(await admin.send(agent.id, "words", conversation="latest"), *FINAL)
        argv = json.loads((tmp_path / "called.json").read_text())["argv"]
        read = await call_api(admin, "GET", f"/v1/conversations/{command['conversation_id']}")
        assert read["turns"] == 2
        assert f"--resume={read['cli_id']}" in argv or f"--session-id={read['cli_id']}" in argv


@pytest.mark.no_worker
@cases(
    ("kind", "fields", "status"),
    [
        ("shell", {}, 201),
        ("shell", {"conversation": "latest"}, 201),
        ("shell", {"model": "opus"}, 422),
        ("shell", {"conversation": str(uuid4())}, 422),
        ("claude", {"conversation": str(uuid4())}, 422),
        ("claude", {"conversation": "newest"}, 422),
        ("claude", {"model": "--dangerously-skip-permissions"}, 422),
        ("claude", {"effort": "huge"}, 422),
        ("claude", {"permission_mode": "ask"}, 201),
        ("claude", {"permission_mode": "plan"}, 201),
        ("claude", {"permission_mode": "full"}, 422),
        ("shell", {"permission_mode": "plan"}, 422),
        ("claude", {"model": "claude-opus-5-5[1m]", "effort": "max"}, 201),
    ],
)
async def test_a_turn_that_its_agent_cannot_take_is_refused(api, admin, kind, fields, status):
    """A command line has no conversation and no model; a model cannot be another option of the CLI."""
    agent = await api.enrol(f"a{uuid4().hex[:8]}", kind)
    sent = await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", {"text": "x", **fields}, status)
    listed = await call_api(admin, "GET", f"/v1/conversations?agent_id={agent.id}")
    assert len(listed["conversations"]) == (status == 201 and kind == "claude")
    if status == 201:
        assert (sent["conversation_id"] is None) == (kind == "shell")


@pytest.mark.no_worker
async def test_an_admin_sets_how_far_an_agent_goes(api, admin, tmp_path):
    """The agent's mode is the default of its commands and their limit; queued commands are held to a stricter one."""
    agent = await api.enrol("one", "claude")
    path, commands = f"/v1/agents/{agent.id}/permission-mode", f"/v1/agents/{agent.id}/commands"
    operator = Operator(api, await api.operator(Role.OPERATOR))
    await call_api(operator, "PUT", path, {"permission_mode": "full"}, 403)
    await call_api(admin, "PUT", path, {"permission_mode": "everything"}, 422)
    run = CommandLine(api, await api.operator(), tmp_path).run
    out, _ = await run("agents", "permission-mode", "one", "full")
    assert out == "one: full\n"
    full = await call_api(admin, "POST", commands, {"text": "x"}, 201)
    edits = await call_api(admin, "POST", commands, {"text": "x", "permission_mode": "accept_edits"}, 201)
    assert [sent["turn"]["permission_mode"] for sent in (full, edits)] == ["full", "accept_edits"]
    answer = await call_api(admin, "PUT", path, {"permission_mode": "auto"})
    assert answer["permission_mode"] == "auto"
    modes = [(await admin.read(sent))["turn"]["permission_mode"] for sent in (full, edits)]
    assert modes == ["auto", "accept_edits"]
    group = {"text": "x", "target": {"all": True}, "permission_mode": "full"}
    refused = await call_api(admin, "POST", "/v1/groups", group, 422)
    assert "The agent one goes no further than the permission mode auto." in refused["detail"]
    details = [detail["permission_mode"] for _, detail in await audit_entries(api, "agent.permission_mode_set")]
    assert details == [["ask", "full"], ["full", "auto"]]


@pytest.mark.no_worker
async def test_a_group_is_a_turn_of_each_agents_own_conversation(api, admin):
    """Each agent that has conversations begins a new one, or continues its latest; a named one is refused."""
    for name, kind in (("one", "claude"), ("two", "claude"), ("three", "shell")):
        await api.enrol(name, kind)
    new = await call_api(admin, "POST", "/v1/groups", {"text": "x", "target": {"all": True}}, 201)
    begun = {command["agent_id"]: command["conversation_id"] for command in new["commands"]}
    assert len(set(begun.values())) == 3
    body = {"text": "x", "target": {"all": True}, "conversation": "latest"}
    latest = await call_api(admin, "POST", "/v1/groups", body, 201)
    assert {command["agent_id"]: command["conversation_id"] for command in latest["commands"]} == begun
    named = next(conversation for conversation in begun.values() if conversation is not None)
    await call_api(admin, "POST", "/v1/groups", body | {"conversation": named}, 422)
    unknown = body | {"target": {"agents": ["one"]}, "conversation": str(uuid4())}
    refused = await call_api(admin, "POST", "/v1/groups", unknown, 422)
    assert refused["detail"].startswith("The agent one has no conversation ")
    assert len((await call_api(admin, "GET", "/v1/groups"))["groups"]) == 2
    body = {"text": "x", "target": {"agents": ["one", "two"]}, "model": "opus"}
    assert len((await call_api(admin, "POST", "/v1/groups", body, 201))["commands"]) == 2
    await call_api(admin, "POST", "/v1/groups", body | {"target": {"all": True}}, 422)


@pytest.mark.no_worker
async def test_what_cannot_be_forked_or_imported_is_refused(api, admin):
    """A conversation without a turn has nothing to copy; one that is here is not imported again."""
    shell, claude = await api.enrol("one"), await api.enrol("two", "claude")
    sent = await call_api(admin, "POST", f"/v1/agents/{claude.id}/commands", {"text": "x"}, 201)
    path = f"/v1/conversations/{sent['conversation_id']}"
    await call_api(admin, "POST", path + "/fork", {}, 409)
    await call_api(admin, "POST", f"/v1/conversations/{uuid4()}/fork", {}, 404)
    await call_api(admin, "PATCH", path, {"title": ""}, 422)
    await call_api(admin, "POST", f"/v1/agents/{claude.id}/conversations", {"cli_id": "-x"}, 422)
    await call_api(admin, "POST", f"/v1/agents/{claude.id}/conversations", {"cli_id": "x"}, 201)
    await call_api(admin, "POST", f"/v1/agents/{claude.id}/conversations", {"cli_id": "x"}, 409)
    await call_api(admin, "POST", f"/v1/agents/{shell.id}/conversations", {"cli_id": "x"}, 409)
    await call_api(admin, "POST", f"/v1/agents/{uuid4()}/conversations", {"cli_id": "x"}, 404)
    viewer = Operator(api, await api.operator(Role.VIEWER))
    await call_api(viewer, "GET", path)
    await call_api(viewer, "PATCH", path, {"title": "y"}, 403)


@pytest.mark.no_worker
async def test_the_command_line_continues_the_latest_conversation(api, admin, tmp_path):
    """`send` continues the latest conversation by default; `conversations` lists, shows, renames and imports them."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    agent = await api.enrol("one", "claude")
    sent = []
    for options in ((), (), ("--new",), ("--preset", "investigate", "--set", "what=why")):
        text = () if "--preset" in options else ("hello there",)
        [row] = json.loads((await run("send", "--agent", "one", "--json", *options, *text))[0])
        sent.append(row["conversation_id"])
    assert sent[0] == sent[1]
    assert len(set(sent)) == 3
    out, _ = await run("conversations", "list", "--agent", "one", "hello")
    assert [line.split()[0] for line in out.splitlines()] == [sent[2], sent[0]]
    await run("conversations", "rename", sent[0], "A better title")
    out, _ = await run("conversations", "show", sent[0])
    assert out.splitlines()[0] == "A better title"
    assert out.count("hello there") == 2
    _, err = await run("conversations", "fork", sent[0], code=1)
    assert "has no turn yet" in err
    out, _ = await run("conversations", "import", "one", "abc", "--title", "From outside", "--json")
    assert json.loads(out)["agent_id"] == agent.id
    out, _ = await run("send", "--agent", "one", "--conversation", sent[0], "more")
    assert f"conversation {sent[0]}" in out
    _, err = await run("send", "--agent", "one", "--new", "--conversation", sent[0], "more", code=2)
    assert "Give one conversation" in err


@pytest.mark.no_worker
async def test_rules_of_an_agent_are_an_admins(api, admin, tmp_path):
    """A command and a preset may deny anything, and allow what the agent may; a command line has no tools."""
    agent, shell = await api.enrol("one", "claude"), await api.enrol("two")
    path, commands = f"/v1/agents/{agent.id}/rules", f"/v1/agents/{agent.id}/commands"
    operator = Operator(api, await api.operator(Role.OPERATOR))
    rules = {"allow": ["Bash(git *)"], "deny": ["WebFetch"]}
    await call_api(operator, "PUT", path, {"rules": rules}, 403)
    await call_api(admin, "PUT", path, {"rules": {"allow": ["Bash("]}}, 422)
    await call_api(admin, "PUT", path, {"rules": {"forbid": ["Bash"]}}, 422)
    await call_api(admin, "PUT", f"/v1/agents/{shell.id}/rules", {"rules": rules}, 409)
    run = CommandLine(api, await api.operator(), tmp_path).run
    out, _ = await run("agents", "rules", "one", "--allow", "Bash(git *)", "--deny", "WebFetch")
    assert out == "allow Bash(git *)\ndeny WebFetch\n"
    assert (await run("agents", "rules", "one"))[0] == out
    assert (await call_api(admin, "GET", f"/v1/agents/{agent.id}"))["rules"] == rules

    asked = {"allow": ["Bash(git log*)"], "deny": ["edit"]}
    sent = await call_api(operator, "POST", commands, {"text": "x", "rules": asked}, 201)
    assert sent["turn"]["rules"] == asked
    refused = await call_api(operator, "POST", commands, {"text": "x", "rules": {"allow": ["Bash(g*)"]}}, 422)
    assert "The agent one may not be allowed Bash(g*)." in refused["detail"]
    await call_api(operator, "POST", f"/v1/agents/{shell.id}/commands", {"text": "x", "rules": asked}, 422)
    preset = {"template": "do it", "rules": {"allow": ["read"], "deny": ["Task"]}}
    await call_api(operator, "PUT", "/v1/presets/careful", preset)
    await call_api(operator, "POST", commands, {"preset": "careful"}, 422)
    await call_api(operator, "PUT", "/v1/presets/careful", {**preset, "rules": {"deny": ["Task"]}})
    sent = await call_api(operator, "POST", commands, {"preset": "careful", "rules": asked}, 201)
    assert sent["turn"]["rules"] == {"allow": ["Bash(git log*)"], "deny": ["Task", "edit"]}
    timed = {"name": "s", "target": {"agents": ["one"]}, "at": "2090-01-01T00:00:00Z", "text": "x", "rules": asked}
    assert (await call_api(operator, "POST", "/v1/schedules", timed, 201))["rules"] == asked
    out, _ = await run("send", "--agent", "one", "--deny", "Bash", "x", "--json")
    assert json.loads(out)[0]["turn"]["rules"] == {"deny": ["Bash"]}
    await call_api(admin, "PUT", path, {"rules": {}})
    [before, after] = [detail["rules"] for _, detail in await audit_entries(api, "agent.rules_set")]
    assert (before, after) == ([{}, rules], [rules, {}])


@pytest.mark.no_worker
async def test_an_agent_gets_the_rules_that_are_in_force(api, admin):
    """Those of the agent when the command starts, and of the command what they still let it allow; a program that does
    not know rules gets no command that has some."""
    agent = await api.enrol("one", "claude")
    path, commands = f"/v1/agents/{agent.id}/rules", f"/v1/agents/{agent.id}/commands"
    await call_api(admin, "PUT", path, {"rules": {"allow": ["Bash"]}})
    asked = {"allow": ["Bash(git *)"], "deny": ["edit"]}
    sent = await call_api(admin, "POST", commands, {"text": "x", "rules": asked}, 201)
    await call_api(admin, "PUT", path, {"rules": {"allow": ["Read"], "deny": ["WebFetch"]}})
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude"}))
        await next_message(socket, "welcome")
        problem = await call_api(admin, "POST", commands, {"text": "x", "rules": {"deny": ["edit"]}}, 422)
        assert "does not hold its coding CLI to rules" in problem["detail"]
        await call_api(admin, "PUT", path, {"rules": {"deny": ["Bash"]}}, 409)
        async with await connect(api.database_url, role="onsembl_api") as conn:  # as its job does after three offers
            await undelivered(conn, CommandId(UUID(sent["id"])), final=True)
            row = await command_row(conn, CommandId(UUID(sent["id"])))
            assert row is not None and "does not hold its coding CLI to rules" in row["error"]
            await conn.rollback()
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude", "takes_rules": True}))
        offer = await next_message(socket, "offer")
        assert offer["turn"]["rules"] == {"allow": ["Read"], "deny": ["WebFetch", "edit"]}


async def test_a_fork_ends_with_a_turn(api, admin, claude, tmp_path):
    """The CLI copies the conversation up to the last message of that turn; the copy continues as any other."""
    run = CommandLine(api, await api.operator(), tmp_path).run
    async with agent_running(api, tmp_path, kind="claude") as agent:
        first = await admin.until_state(await admin.send(agent.id, "words"), *FINAL)
        conversation = first["conversation_id"]
        for text in ("tool", "words"):
            await admin.until_state(await admin.send(agent.id, text, conversation=conversation), *FINAL)
        path = f"/v1/conversations/{conversation}"
        original = await call_api(admin, "GET", path)
        out, _ = await run("conversations", "show", conversation)
        assert f"   1  {first['id']}" in out
        out, _ = await run("conversations", "fork", conversation, "--turn", "1", "--json")
        copy = json.loads(out)
        turn = await admin.until_state(await admin.send(agent.id, "words", conversation=copy["id"]), *FINAL)
        lines = map(json.loads, (TRANSCRIPTS / "words.jsonl").read_text().splitlines())
        last = [line["uuid"] for line in lines if line["type"] == "assistant"][-1]
        assert turn["turn"]["fork_at"] == last
        argv = json.loads((tmp_path / "called.json").read_text())["argv"]
        for argument in (f"--resume={original['cli_id']}", f"--resume-session-at={last}", "--fork-session"):
            assert argument in argv
        _, error = await run("conversations", "fork", conversation, "--turn", "4", code=2)
        assert "The conversation has 3 turns." in error
        await call_api(admin, "POST", path + "/fork", {"after": turn["id"]}, 409)
        async with await connect(api.database_url) as conn:
            await conn.execute("update commands set last_message = null")
        problem = await call_api(admin, "POST", path + "/fork", {"after": first["id"]}, 409)
        assert problem["detail"] == "The agent did not report where this turn ends in the conversation."


async def test_a_forgotten_conversation_begins_anew_with_its_last_answer(api, admin, claude, tmp_path):
    """The first prompt of the new one begins with the answer; a later one does not."""
    async with agent_running(api, tmp_path, kind="claude") as agent:
        first = await admin.until_state(await admin.send(agent.id, "words"), *FINAL)
        conversation = first["conversation_id"]
        path = f"/v1/conversations/{conversation}"
        await call_api(admin, "POST", path + "/anew", {}, 409)  # it is not forgotten
        forgotten = await admin.until_state(await admin.send(agent.id, "forgotten", conversation=conversation), *FINAL)
        assert forgotten["error"] == FORGOTTEN
        body = {"text": "x", "conversation": conversation}
        problem = await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", body, 422)
        assert problem["detail"].endswith(f"onsembl conversations anew {conversation}")
        out, _ = await CommandLine(api, await api.operator(), tmp_path).run("conversations", "show", conversation)
        assert f"onsembl conversations anew {conversation}" in out

        async def begun():
            body = {"title": "Once more"}
            answer = await api.http.post(path + "/anew", json=body, headers=admin.headers)
            return answer.json() if answer.status_code == 201 else None

        made = await until(begun, "the answer's step has arrived")
        assert (made["title"], made["forked_from"], made["state"]) == ("Once more", conversation, "open")
        turn = await admin.until_state(await admin.send(agent.id, "words", conversation=made["id"]), *FINAL)
        called = json.loads((tmp_path / "called.json").read_text())
        assert called["prompt"].startswith("This continues an earlier conversation")
        assert "word0 word1" in called["prompt"]
        assert called["prompt"].endswith("\n\nwords")
        assert f"--session-id={made['cli_id']}" in called["argv"]
        assert turn["text"] == "words"
    assert [action for action, _ in await audit_entries(api, "conversation.%")] == ["conversation.begun_anew"]


@pytest.mark.no_worker
async def test_a_dispatched_command_keeps_its_permission_mode(api, admin):
    """A stricter mode of the agent holds the commands that wait; the one that it was offered goes on as it was."""
    agent = await api.enrol("one", "claude")
    path, commands = f"/v1/agents/{agent.id}/permission-mode", f"/v1/agents/{agent.id}/commands"
    await call_api(admin, "PUT", path, {"permission_mode": "full"})
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude"}))
        await next_message(socket, "welcome")
        first = await call_api(admin, "POST", commands, {"text": "x"}, 201)
        assert (await next_message(socket, "offer"))["turn"]["permission_mode"] == "full"
        second = await call_api(admin, "POST", commands, {"text": "y"}, 201)
        await call_api(admin, "PUT", path, {"permission_mode": "plan"})
        rows = [await admin.read(sent) for sent in (first, second)]
        assert [row["state"] for row in rows] == ["dispatched", "queued"]
        assert [row["turn"]["permission_mode"] for row in rows] == ["full", "plan"]
