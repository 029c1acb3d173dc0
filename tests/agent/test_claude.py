"""Kind `claude`, on recorded runs of the real CLI."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from agent.conftest import PATIENT, TESTS, alone, until

from onsembl.agent.drivers.conversation_lock import IN_USE

TRANSCRIPTS = TESTS / "agent" / "transcripts"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A search path with a `claude` on it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "claude").symlink_to(TESTS / "support" / "fake_claude.py")
    import os

    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TRANSCRIPTS": str(TRANSCRIPTS)}


async def test_a_prompt_is_answered(tmp_path, environment):
    """The terminal shows the answer, not its JSON; the end has the usage."""
    async with alone(tmp_path, kind="claude", **environment) as agent:
        end = await agent.run("tool please")
        assert (end["outcome"], end["error"]) == ("succeeded", None)
        assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"], end["usage"]["turns"]) == (200, 32, 2)
        assert end["usage"]["model"] == "claude-opus-4-8[1m]"
        shown = agent.shown.decode()
        assert "The command printed: one\r\ntwo\r\n" in shown
        assert "● \x1b[1mBash" in shown
        assert "a warning\r\n" in shown
        assert '"type"' not in shown


async def test_the_prompt_is_not_in_the_list_of_processes(tmp_path, environment):
    """The prompt goes to standard input."""
    async with alone(tmp_path, kind="claude", **environment) as agent:
        await agent.run("words and a secret")
    called = json.loads((tmp_path / "called.json").read_text())
    assert called["prompt"] == "words and a secret"
    assert called["argv"][0] == "-p"
    assert called["mode"] == "default"
    assert "secret" not in " ".join(called["argv"])


async def test_an_error_of_the_model_fails_the_command(tmp_path, environment):
    """The command's error is the CLI's own text."""
    async with alone(tmp_path, kind="claude", **environment) as agent:
        end = await agent.run("api_error")
        assert (end["outcome"], end["exit_code"], end["error"]) == ("failed", 1, "API Error: 400 scripted failure")
        assert agent.shown.count(b"API Error") == 1


async def test_a_run_is_interrupted(tmp_path, environment):
    """The interrupt goes by the protocol: the CLI reports its usage, and exits."""
    async with alone(tmp_path, kind="claude", times=PATIENT, **environment) as agent:
        command = agent.offer("interrupted KEEP_ON")
        await agent.until_shown(b"step0")
        agent.order("cancel", command)
        end = await agent.report("ended")
        assert (end["outcome"], end["exit_code"], agent.steps()) == ("cancelled", 0, ["interrupt"])
        assert end["usage"]["input_tokens"] == 100
        assert b"[Request interrupted by user]" in agent.shown


async def test_a_cli_that_is_missing_fails_the_command_in_words(tmp_path):
    """The error names the program, and how to find the mend."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to("/bin/bash")
    async with alone(tmp_path, kind="claude", PATH=str(tmp_path / "bin")) as agent:
        end = await agent.run("hello")
    assert (end["outcome"], end["error"]) == (
        "failed",
        "It could not be started: No such file or directory: claude. Find the mend on the agent's machine with: "
        "onsembl agent doctor",
    )


async def test_a_text_goes_into_the_running_turn_once(tmp_path, environment):
    """The CLI takes it after a tool: it is shown, reported with its step, and not given again when it comes again."""
    async with alone(tmp_path, kind="claude", **environment) as agent:
        command, steer = agent.offer("tool TAKES"), str(uuid4())
        agent.order("steer", command, steer, "leave the tests alone")
        taken = await agent.report("steered")
        assert (taken["command_id"], taken["steer_id"], taken["step"]) == (command, steer, 2)
        agent.order("steer", command, steer, "leave the tests alone")
        end = await agent.report("ended")
        assert (end["outcome"], end["steers"]) == ("succeeded", [{"steer_id": steer, "state": "taken", "step": 2}])
        assert agent.shown.count("❯\x1b[0m leave the tests alone".encode()) == 1


async def test_a_text_that_the_turn_did_not_take_is_late(tmp_path, environment):
    """The CLI dies before it takes the text; a text for another command, or after the end, is ignored."""
    async with alone(tmp_path, kind="claude", **environment) as agent:
        command, steer = agent.offer("tool DROPS"), str(uuid4())
        agent.order("steer", str(uuid4()), str(uuid4()), "for another command")
        agent.order("steer", command, steer, "leave the tests alone")
        end = await agent.report("ended")
        assert (end["outcome"], end["steers"]) == ("failed", [{"steer_id": steer, "state": "late", "step": None}])
        agent.order("steer", command, str(uuid4()), "after the end")
        assert (await agent.run("words"))["steers"] == []
    assert not [report for report in agent.reports if report["type"] == "steered"]


async def test_a_text_whose_agent_is_killed_is_not_given_again(tmp_path, environment):
    """Nobody knows whether the CLI took it: the next run of the agent reports that."""
    async with alone(tmp_path, kind="claude", **environment) as agent:
        command, steer = agent.offer("interrupted KEEP_ON"), str(uuid4())
        await agent.until_shown(b"step0")
        agent.order("steer", command, steer, "leave the tests alone")
        await until(lambda: b"steer_given" in (tmp_path / "journal.jsonl").read_bytes(), "the text is in the journal")
        agent.process.kill()
    async with alone(tmp_path, kind="claude", **environment) as agent:
        end = await agent.report("ended")
        assert (end["outcome"], end["steers"]) == ("lost", [{"steer_id": steer, "state": "unknown", "step": None}])


async def test_two_agents_of_a_machine_do_not_share_a_conversation(tmp_path, environment):
    """The second one fails in words while the first one works in it, and continues it afterwards."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    async with (
        alone(tmp_path / "one", kind="claude", times=PATIENT, **environment) as one,
        alone(tmp_path / "two", kind="claude", **environment) as two,
    ):
        command = one.offer("interrupted KEEP_ON", conversation="a")
        await one.until_shown(b"step0")
        two.offer("words", conversation="a")
        end = await two.report("ended")
        assert (end["outcome"], end["error"]) == ("failed", IN_USE)
        two.offer("words", conversation="b")
        assert (await two.report("ended"))["outcome"] == "succeeded"
        one.order("cancel", command)
        await one.report("ended")
        two.offer("words", conversation="a")
        assert (await two.report("ended"))["outcome"] == "succeeded"
