"""The real CLIs but Claude Code ask a person, through agent and server: shell commands, changes of files, questions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from clis.programs import ASKING_OPENCODE, CLAUDE_BY_ACP, CODEX, GEMINI, Cli
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.command_line import CommandLine

from onsembl.agent.mcp.gateway import server_name
from onsembl.protocol.states import Role

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Asking:
    """A CLI, and how its model has it ask: in each prompt NAME is a file in FOLDER. `tool` is the model's name of a
    server's tool, in which `bare` is the server's without a hyphen."""

    cli: Cli
    shell: str
    edit: str
    tool: str
    goes_on: bool = True
    """Whether a turn goes on after a denial: OpenCode ends it."""
    shows_changes: bool = True
    """Whether a request has the change of the file: OpenCode's has not."""


_PATCH = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: NAME\n+x\n*** End Patch\nEOF"
_LEAVES_SANDBOX = {"cmd": "touch FOLDER/NAME", "sandbox_permissions": "require_escalated", "justification": "why"}
ASKING = {
    "codex": Asking(
        cli=CODEX,
        shell=f"[call: exec_command {json.dumps(_LEAVES_SANDBOX)}]",
        edit=f"[call: exec_command {json.dumps({'cmd': _PATCH})}]",
        tool="mcp__{bare}.{tool}",
    ),
    "gemini": Asking(
        cli=GEMINI,
        shell="[run: touch NAME]",
        edit='[call: write_file {"file_path": "FOLDER/NAME", "content": "x"}]',
        tool="mcp_{server}_{tool}",
    ),
    "opencode": Asking(
        cli=ASKING_OPENCODE,
        shell="[run: touch NAME]",
        edit='[call: write {"filePath": "FOLDER/NAME", "content": "x"}]',
        tool="{server}_{tool}",
        goes_on=False,
        shows_changes=False,
    ),
    "claude by ACP": Asking(
        cli=CLAUDE_BY_ACP,
        shell="[run: touch NAME]",
        edit='[call: Write {"file_path": "FOLDER/NAME", "content": "x"}]',
        tool="mcp__{server}__{tool}",
    ),
}


@pytest.fixture(params=ASKING)
def asking(
    request: pytest.FixtureRequest, pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Asking:
    found = ASKING[request.param]
    found.cli.use(pinned, model, tmp_path, monkeypatch)
    return found


def prompt(folder: Path, *calls: tuple[str, str]) -> str:
    """A prompt for these calls, each for a file of this name."""
    texts = [call.replace("FOLDER", str(folder)).replace("NAME", name) for call, name in calls]
    return " ".join([*texts, "[say: Done.]"])


async def asked(admin: Operator, command: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """The requests that wait, once they are so many."""

    async def waiting() -> list[dict[str, Any]] | None:
        row = await admin.read(command)
        assert row["state"] not in FINAL, (row["state"], row["error"])
        found = (await call_api(admin, "GET", "/v1/attention?state=open"))["requests"]
        return found if len(found) == count else None

    return await until(waiting, f"{count} requests wait", 150)  # type: ignore[return-value]


async def answer(admin: Operator, row: dict[str, Any], decision: str, **fields: Any) -> None:
    scope = {name: fields.pop(name) for name in ("scope", "rule") if name in fields}
    body = {"digest": row["digest"], "decision": {"decision": decision, **fields}, **scope}
    await call_api(admin, "POST", f"/v1/attention/{row['id']}/answer", body)


async def test_commands_and_changes_wait(api, admin, asking, tmp_path):
    """Allowed, they are made; denied, they are not. Commands are answered by the command line, changes by REST."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    calls = [(asking.shell, "a"), (asking.edit, "c"), (asking.shell, "b"), (asking.edit, "d")]
    calls = calls if asking.goes_on else calls[:3]
    arguments = asking.cli.arguments
    async with agent_running(api, tmp_path, kind=asking.cli.kind, arguments=arguments) as agent:
        command = await admin.send(agent.id, prompt(tmp_path, *calls), permission_mode="ask")
        kinds: list[str] = []
        for _, name in calls:
            (row,) = await asked(admin, command)
            kinds.append(row["body"]["tool_kind"])
            assert name in row["title"]
            if row["body"]["tool_kind"] == "edit" and asking.shows_changes:
                assert "+x" in row["body"]["diff"]
            decision = "allow" if name in ("a", "c") else "deny"
            if row["body"]["tool_kind"] == "execute":
                await run("attention", "answer", row["id"], f"--{decision}")
            else:
                await answer(admin, row, decision)
        ended = await admin.until_state(command, *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, len(calls) - 2)
        assert kinds == ["execute", "edit", "execute", "edit"][: len(calls)]
        assert {name for name in "abcd" if (tmp_path / name).exists()} == {"a", "c"}


@pytest.mark.parametrize("kind", ["shell", "edit"])
async def test_what_is_allowed_in_a_conversation_is_not_asked_again(api, admin, asking, tmp_path, kind):
    """In the same turn and in the next one; in another conversation it is."""
    call = getattr(asking, kind)
    async with agent_running(api, tmp_path, kind=asking.cli.kind, arguments=asking.cli.arguments) as agent:
        command = await admin.send(agent.id, prompt(tmp_path, (call, "a"), (call, "b")), permission_mode="ask")
        (row,) = await asked(admin, command)
        await answer(admin, row, "allow", scope="conversation", rule=row["body"]["rules"][-1])
        ended = await admin.until_state(command, *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)
        text = prompt(tmp_path, (call, "c"))
        again = await admin.send(agent.id, text, permission_mode="ask", conversation=ended["conversation_id"])
        assert (await admin.until_state(again, *FINAL, seconds=150))["state"] == "succeeded"
        assert all((tmp_path / name).exists() for name in "abc")
        other = await admin.send(agent.id, prompt(tmp_path, (call, "d")), permission_mode="ask", conversation="new")
        (row,) = await asked(admin, other)
        await answer(admin, row, "deny")
        await admin.until_state(other, *FINAL)
        assert not (tmp_path / "d").exists()


async def test_the_agents_own_tools_need_no_permission(api, admin, asking, tmp_path):
    """A question to the operator waits for its answer; a server of the user that is called onsembl is none of them."""
    server = server_name(tmp_path / "agents" / "one")
    question = json.dumps({"question": "Deploy?", "options": ["now", "later"]})
    tool = asking.tool.format(server=server, bare=server.replace("-", "_"), tool="ask_operator")
    async with agent_running(api, tmp_path, kind=asking.cli.kind, arguments=asking.cli.arguments) as agent:
        command = await admin.send(agent.id, f"[call: {tool} {question}]", permission_mode="ask")
        (row,) = await asked(admin, command)
        assert (row["title"], row["kind"]) == ("Deploy?", "question")
        await answer(admin, row, "answers", answers=[{"id": "1", "answers": ["later"]}])
        ended = await admin.until_state(command, *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)


async def test_two_wait_at_once(api, admin, codex, tmp_path):
    """Codex's turn and its subagent; they are answered in the other order."""
    call = ASKING["codex"].shell
    inner = json.dumps({"message": prompt(tmp_path, (call, "inner"))})
    script = f"[call: multi_agent_v1.spawn_agent {inner}] {prompt(tmp_path, (call, 'outer'))}"
    async with agent_running(api, tmp_path, kind="codex") as agent:
        command = await admin.send(agent.id, script, permission_mode="ask")
        rows = await asked(admin, command, 2)
        for row in sorted(rows, key=lambda row: "inner" not in row["title"]):
            await answer(admin, row, "allow")
        ended = await admin.until_state(command, *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)
        assert (tmp_path / "outer").exists() and (tmp_path / "inner").exists()


@pytest.mark.parametrize("asking", ["gemini", "opencode", "claude by ACP"], indirect=True)
async def test_calls_that_are_made_together_wait_one_after_the_other(api, admin, asking, tmp_path):
    """The model makes two calls in one step: these CLIs ask about the second one when the first has its answer.
    Codex asks about both at once."""
    edit = asking.edit.removeprefix("[call: ").removesuffix("]").replace("FOLDER", str(tmp_path))
    calls = " & ".join(edit.replace("NAME", name) for name in ("a", "b"))
    async with agent_running(api, tmp_path, kind=asking.cli.kind, arguments=asking.cli.arguments) as agent:
        command = await admin.send(agent.id, f"[call: {calls}] [say: Done.]", permission_mode="ask")
        answered: list[dict[str, Any]] = []
        for _ in range(2):
            (row,) = await asked(admin, command)
            await answer(admin, row, "allow")
            answered.append(await call_api(admin, "GET", f"/v1/attention/{row['id']}"))
        assert (await admin.until_state(command, *FINAL))["state"] == "succeeded"
        first, second = answered
        assert first["closed_at"] < second["asked_at"], "both waited at once"
        assert (tmp_path / "a").exists() and (tmp_path / "b").exists()


async def test_questions_of_codex_wait(api, admin, codex, tmp_path):
    """With an option, another text, and a secret, which only Codex gets. Out of its plan mode it asks by a feature."""
    with (tmp_path / "home" / ".codex" / "config.toml").open("a") as config:
        config.write("[features]\ndefault_mode_request_user_input = true\n")
    options = [{"label": label, "description": "-"} for label in ("red", "blue")]
    asked_for = [
        {"id": "colour", "header": "Colour", "question": "Which?", "options": options},
        {"id": "other", "header": "Other", "question": "Which else?", "options": options},
        {"id": "key", "header": "Key", "question": "The key?", "options": options, "isSecret": True},
    ]
    async with agent_running(api, tmp_path, kind="codex") as agent:
        call = json.dumps({"questions": asked_for})
        command = await admin.send(agent.id, f"[call: request_user_input {call}]", permission_mode="ask")
        (row,) = await asked(admin, command)
        told = [(one["id"], len(one["options"]), one["free_text"], one["secret"]) for one in row["body"]["questions"]]
        assert told == [("colour", 2, True, False), ("other", 2, True, False), ("key", 2, True, True)]
        given = {"colour": ["blue"], "other": ["neither"], "key": ["s3cret"]}
        await answer(admin, row, "answers", answers=[{"id": id, "answers": texts} for id, texts in given.items()])
        ended = await admin.until_state(command, *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)
        shown = (await call_api(admin, "GET", f"/v1/attention/{row['id']}"))["decision"]["answers"]
        assert {one["id"]: one["answers"] for one in shown} == {**given, "key": ["•••"]}
        steps = (await call_api(admin, "GET", f"/v1/commands/{command['id']}/steps"))["steps"]
        (said,) = [step["title"] for step in steps if step["kind"] == "message"]
        printed = json.loads(said.removeprefix("The command printed: "))
        assert printed == {"answers": {id: {"answers": texts} for id, texts in given.items()}}


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of each file below the folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


SETTINGS = ("*.toml", "*.rules", "settings*.json", "opencode*.json*", ".claude.json", "*mcp*", "AGENTS*", "GEMINI*")
"""What CLIs read as settings, by name."""


async def test_the_users_files_stay_as_they_are(api, admin, asking, tmp_path):
    """During a turn with a question to the operator, a permission and a change: the settings of the CLI, the user's
    instructions, and the working folder. None is changed. Settings that a CLI makes itself have nothing of ours."""
    home, folder = tmp_path / "home", tmp_path / "project"
    folder.mkdir()
    for name in (".codex/AGENTS.md", ".codex/rules/own.rules", ".gemini/GEMINI.md", ".config/opencode/AGENTS.md"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("# of the user\n")
    for name in ("AGENTS.md", "CLAUDE.md", "GEMINI.md"):
        (folder / name).write_text("# of the user\n")
    for settings in home.rglob("*.json"):  # Gemini CLI and OpenCode write theirs anew when they start, in this form
        schema = {"$schema": "https://opencode.ai/config.json"} if settings.name == "opencode.json" else {}
        settings.write_text(json.dumps(schema | json.loads(settings.read_text()), indent=2))
    before = files_of(home) | files_of(folder)
    question = json.dumps({"question": "Deploy?", "options": ["now", "later"]})
    server = server_name(tmp_path / "agents" / "one")
    tool = asking.tool.format(server=server, bare=server.replace("-", "_"), tool="ask_operator")
    async with agent_running(
        api, tmp_path, kind=asking.cli.kind, arguments=asking.cli.arguments, options=("--cwd", str(folder))
    ) as agent:
        text = f"[call: {tool} {question}] {prompt(folder, (asking.shell, 'a'), (asking.edit, 'b'))}"
        command = await admin.send(agent.id, text, permission_mode="ask")
        (row,) = await asked(admin, command)
        await answer(admin, row, "answers", answers=[{"id": "1", "answers": ["later"]}])
        for _ in range(2):
            (row,) = await asked(admin, command)
            await answer(admin, row, "allow")
        ended = await admin.until_state(command, *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)
    assert files_of(folder).keys() == {"AGENTS.md", "CLAUDE.md", "GEMINI.md", "a", "b"}
    after = files_of(home) | files_of(folder)
    assert {name: after.get(name) for name in before} == before
    made = [name for name in after.keys() - before.keys() if any(fnmatch(Path(name).name, kind) for kind in SETTINGS)]
    assert [name for name in made if server.encode() in after[name] or b"onsembl" in after[name]] == []
