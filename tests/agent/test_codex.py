"""Kind `codex`: how it is started, and how a conversation is begun, kept, continued and copied."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from agent.conftest import TESTS
from agent.test_gemini import end, requests

from onsembl.agent.drivers.codex.driver import CodexDriver
from onsembl.agent.drivers.codex.program import codex_program
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.messages import Offer
from onsembl.protocol.turn_messages import TurnSettings


async def run(context: ProcessContext, text: str, **settings: object) -> str | None:
    turn = TurnSettings(**{"conversation": "ours", **settings})
    return await end(CodexDriver().start(Offer(command_id=uuid4(), text=text, turn=turn), context))


@pytest.fixture
def codex(tmp_path: Path, context: ProcessContext, monkeypatch: pytest.MonkeyPatch) -> ProcessContext:
    """A context in which `codex` is the one of the tests."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "codex").symlink_to(TESTS / "support" / "fake_codex.py")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("RUST_LOG", raising=False)
    return replace(context, cwd=tmp_path, driver_folder=tmp_path / "driver", arguments=("-c", "model=x"))


async def test_a_conversation_continues_and_is_copied_by_the_clis_own_id(codex, tmp_path, shown):
    """Codex chooses the ids; they are on the agent's disk before the prompt is sent. The prompt is no argument."""
    assert await run(codex, "first", permission_mode="plan") is None
    assert b"heard first" in shown.data
    assert json.loads((tmp_path / "called.json").read_text()) == {
        "argv": ["app-server", "-c", "model=x"],
        "log": "off",
    }
    assert await run(codex, "second", preface="before") is None
    assert requests(tmp_path)[-1][1]["input"] == [{"type": "text", "text": "before\n\nsecond"}]
    assert await run(codex, "third", conversation="a copy", fork_of="ours") is None
    assert await run(codex, "fourth", conversation="a copy", fork_of="ours") is None
    opened = [(method, params.get("threadId")) for method, params in requests(tmp_path) if method[:7] == "thread/"]
    assert opened == [
        ("thread/start", None),
        ("thread/resume", "the-clis-id"),
        ("thread/fork", "the-clis-id"),
        ("thread/resume", "copy-of-the-clis-id"),
    ]


@pytest.mark.parametrize("nested", [False, True])
def test_the_binary_runs_without_npms_script(tmp_path, monkeypatch, nested):
    """Wherever npm has put the package of this machine: else killing the script would leave Codex running."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    packages = tmp_path / "lib" / "node_modules" / "@openai"
    script = packages / "codex" / "bin" / "codex.js"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    (tmp_path / "codex").symlink_to(script)
    assert codex_program() == "codex"  # without its binary the script says what is wrong
    place = packages / "codex" / "node_modules" / "@openai" if nested else packages
    binary = place / "codex-linux-x64" / "vendor" / "x86_64-unknown-linux-musl" / "bin" / "codex"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    assert codex_program() == str(binary)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert codex_program() == "codex"


def test_any_other_codex_runs_as_it_is(tmp_path, monkeypatch):
    """A binary, a script of the user's own, or none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert codex_program() == "codex"
    (tmp_path / "codex").touch(mode=0o755)
    assert codex_program() == "codex"
