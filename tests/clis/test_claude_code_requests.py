"""The real Claude Code asks a person, through the agent: shell commands, edits, questions and plans, two at once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from agent.conftest import PATIENT, Alone, alone
from clis.programs import CLAUDE

from onsembl.agent.mcp.gateway import server_name

pytestmark = pytest.mark.clis


@pytest.fixture
async def agent(pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Alone]:
    """An agent whose server takes requests."""
    CLAUDE.use(pinned, model, tmp_path, monkeypatch)
    async with alone(tmp_path, kind="claude", times=PATIENT) as agent:
        agent.order("welcome", True)
        await agent.report("open_requests")
        yield agent


def begin(agent: Alone, prompt: str, mode: str = "ask", **rules: object) -> str:
    return agent.offer(prompt, conversation=str(uuid4()), permission_mode=mode, **rules)


async def asked(agent: Alone) -> dict[str, Any]:
    """The next request; its body in the place of the message's."""
    return await agent.report("asked")


async def succeeds(agent: Alone) -> None:
    ended = await agent.report("ended")
    assert (ended["outcome"], ended.get("error")) == ("succeeded", None)


async def test_a_shell_command_waits(agent, tmp_path):
    """It runs when it is allowed, also as the person has changed it, and not when it is denied, with the reason."""
    begin(agent, "[run: touch a] [run: touch b] [run: touch c]")
    first = await asked(agent)
    assert (first["title"], first["body"]["kind"], first["body"]["tool"]) == ("Bash touch a", "permission", "Bash")
    assert first["body"]["rules"] == ["Bash(touch a)", "Bash(touch *)", "Bash"]
    agent.answer(first, "allow")
    agent.answer(first, "allow")
    for _ in range(2):
        assert (await agent.report("answer_taken"))["fate"] == "given", "it is repeated until it is acknowledged"
    second = await asked(agent)
    agent.answer(second, "allow", input=json.dumps({"command": "touch changed"}))
    third = await asked(agent)
    agent.answer({**third, "digest": "0" * 64}, "allow")
    assert (await agent.report("answer_taken"))["fate"] == "late", "it was for another input"
    agent.answer(third, "deny", reason="Not on a Friday.")
    await succeeds(agent)
    assert {name for name in ("a", "b", "c", "changed") if (tmp_path / name).exists()} == {"a", "changed"}
    for text in ("Allowed by anna", "with a changed input", "Not on a Friday."):
        assert text.encode() in agent.shown


async def test_an_edit_waits(agent, tmp_path):
    """The request has the change as a diff."""
    begin(agent, f'[call: Write {{"file_path": "{tmp_path}/new.txt", "content": "one\\ntwo\\n"}}] [say: Written.]')
    request = await asked(agent)
    assert request["body"]["tool_kind"] == "edit"
    assert request["body"]["diff"] == f"--- /dev/null\n+++ {tmp_path}/new.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n"
    assert not (tmp_path / "new.txt").exists()
    agent.answer(request, "allow")
    await succeeds(agent)
    assert (tmp_path / "new.txt").read_text() == "one\ntwo\n"


async def test_a_question_waits(agent):
    """The model gets the answer."""
    options = [{"label": "Red", "description": "r"}, {"label": "Blue", "description": "b"}]
    question = {"question": "Which colour?", "header": "Colour", "options": options, "multiSelect": False}
    begin(agent, f"[call: AskUserQuestion {json.dumps({'questions': [question]})}]")
    request = await asked(agent)
    assert (request["body"]["kind"], request["title"]) == ("question", "Which colour?")
    agent.answer(request, "answers", answers=[{"id": "1", "answers": ["Blue"]}])
    await succeeds(agent)
    assert b"Answered by anna: Blue" in agent.shown
    assert b"Which colour?" in agent.shown and b'"Which colour?"="Blue"' in agent.shown


@pytest.mark.parametrize("decision", ["allow", "deny"])
async def test_a_plan_waits(agent, tmp_path, decision):
    """An approved one is carried out, and each step that needs it still waits; one that is sent back is not."""
    begin(agent, '[call: ExitPlanMode {"plan": "# Plan"}] [run: touch planned]', mode="plan")
    request = await asked(agent)
    assert request["body"]["kind"] == "plan"
    agent.answer(request, decision)
    if decision == "allow":
        step = await asked(agent)
        assert step["title"] == "Bash touch planned"
        agent.answer(step, "allow")
    else:
        step = await asked(agent)
        agent.answer(step, "deny")
    await succeeds(agent)
    assert (tmp_path / "planned").exists() == (decision == "allow")


async def test_two_wait_at_once(agent, tmp_path):
    """The main conversation and a subagent in the background; they are answered in the other order."""
    inner = {"description": "d", "subagent_type": "general-purpose", "prompt": "[run: touch inner]"}
    begin(agent, f"[call: Agent {json.dumps({**inner, 'run_in_background': True})}] [run: touch outer] [say: Done.]")
    requests = [await asked(agent), await asked(agent)]
    assert sorted(request["title"] for request in requests) == ["Bash touch inner", "Bash touch outer"]
    for request in reversed(requests):
        agent.answer(request, "allow")
    await succeeds(agent)
    assert (tmp_path / "inner").exists() and (tmp_path / "outer").exists()


@pytest.mark.parametrize("by", ["kill", "cancel"])
async def test_a_request_is_withdrawn_with_its_turn(agent, tmp_path, by):
    """Killed or cancelled with the question open: it is withdrawn, an answer is late, and nothing has run."""
    command = begin(agent, "[run: touch a]")
    request = await asked(agent)
    if by == "cancel":
        agent.order("cancel", command)
    else:
        for pid in programs(tmp_path):
            os.kill(pid, signal.SIGKILL)
    assert (await agent.report("withdrawn"))["request_id"] == request["request_id"]
    ended = await agent.report("ended")
    agent.answer(request, "allow")
    assert (await agent.report("answer_taken"))["fate"] == "late"
    assert ended["outcome"] == ("cancelled" if by == "cancel" else "failed")
    assert not (tmp_path / "a").exists()
    agent.order("welcome", True)
    assert (await agent.report("open_requests"))["requests"] == []


def programs(folder: Path) -> list[int]:
    """The processes of Claude Code below the folder."""
    found: list[int] = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended
            if not process.name.isdecimal() or f"{folder}/bin".encode() not in (process / "environ").read_bytes():
                continue
            if (process / "cmdline").read_bytes().split(b"\0")[0].endswith(b"claude"):
                found.append(int(process.name))
    assert found
    return found


async def test_an_open_request_is_asked_again_after_a_reconnect(agent, tmp_path):
    """Under the same id, and its answer still counts. A server that takes none: it is denied."""
    begin(agent, "[run: touch a] [run: touch b]")
    first = await asked(agent)
    agent.order("welcome", True)
    assert (await agent.report("open_requests"))["requests"] == [first["request_id"]]
    assert await asked(agent) == first
    agent.answer(first, "allow")
    await asked(agent)
    agent.order("welcome", False)
    await succeeds(agent)
    assert (tmp_path / "a").exists() and not (tmp_path / "b").exists()


async def test_the_agents_own_tools_need_no_permission(agent, tmp_path):
    """A question to the operator waits for its answer; a note does not wait. The user's files have neither."""
    ask = json.dumps({"question": "Deploy?", "options": ["now", "later"]})
    server = f"mcp__{server_name(tmp_path)}"
    begin(agent, f'[call: {server}__notify {{"text": "begun"}}] [call: {server}__ask_operator {ask}]')
    request = await asked(agent)
    assert (request["title"], request["body"]["kind"]) == ("Deploy?", "question")
    agent.answer(request, "answers", answers=[{"id": "1", "answers": ["later"]}])
    await succeeds(agent)
    for text in (b"Note for the operator: begun", b"Answered by anna: later", b"The command printed: later"):
        assert text in agent.shown
