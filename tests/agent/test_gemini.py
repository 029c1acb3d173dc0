"""Kind `gemini`: how a conversation is begun, kept and continued, and when it must wait."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from agent.conftest import TESTS

from onsembl.agent.drivers.acp import driver
from onsembl.agent.drivers.acp.driver import GeminiDriver, seconds_until_loadable
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.messages import Offer
from onsembl.protocol.reports import INSTRUCTION, REPORT_STEP
from onsembl.protocol.turn_messages import TurnSettings
from onsembl.protocol.turn_steps import Step

MINUTE = 1_795_800_000 // 60 * 60


@pytest.fixture
def gemini(tmp_path: Path, context: ProcessContext, monkeypatch: pytest.MonkeyPatch) -> ProcessContext:
    """A context in which `gemini` is the one of the tests, with a home of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gemini").symlink_to(TESTS / "support" / "fake_gemini.py")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("GEMINI_CLI_HOME", str(tmp_path))
    return replace(context, cwd=tmp_path, driver_folder=tmp_path / "driver")


def start(context: ProcessContext, text: str, **settings: object) -> TurnRun:
    turn = TurnSettings(**{"conversation": "ours", **settings})
    return GeminiDriver().start(Offer(command_id=uuid4(), text=text, turn=turn), context)


async def end(run: TurnRun) -> str | None:
    """Wait for the program's end; return the run's error."""
    async with asyncio.timeout(60):
        await run.process.exited
    await run.process.drain()
    error = run.finish()
    run.process.close()
    return error


def requests(folder: Path) -> list[tuple[str, dict]]:
    lines = map(json.loads, (folder / "requests.jsonl").read_text().splitlines())
    return [(line["method"], line.get("params", {})) for line in lines]


def opened(folder: Path, now: float, conversation: str) -> None:
    """Leave the file that Gemini CLI writes when it opens a conversation."""
    chats = folder / ".gemini" / "tmp" / "project" / "chats"
    chats.mkdir(parents=True, exist_ok=True)
    minute = time.strftime("%Y-%m-%dT%H-%M", time.gmtime(now))
    (chats / f"session-{minute}-{conversation[:8]}.jsonl").touch()


async def test_a_turn_that_answers_with_a_report_is_told_its_form(gemini, tmp_path):
    """The CLI holds no answer to a schema itself: the prompt ends with it, and the answer is the turn's last step."""
    recorded: list[Step] = []

    class Steps:
        def add(self, command_id: UUID, steps: list[Step], stream_id: UUID | None = None) -> None:
            recorded.extend(steps)

        def ended(self, command_id: UUID) -> None:
            pass

    assert await end(start(replace(gemini, steps=Steps()), "look", report=True)) is None
    (prompt,) = [params["prompt"][0]["text"] for method, params in requests(tmp_path) if method == "session/prompt"]
    assert prompt == f"look\n\n{INSTRUCTION}"
    assert (recorded[-1].name, recorded[-1].text.startswith("heard look")) == (REPORT_STEP, True)


async def test_a_conversation_continues_by_the_clis_own_id(gemini, tmp_path, shown):
    """The CLI chooses the id; it is on the agent's disk before the prompt is sent, and a new driver finds it there."""
    run = start(gemini, "first", model="gemini-x", permission_mode="plan")
    assert await end(run) is None
    assert run.completed and run.usage is not None and run.usage.input_tokens == 3
    assert b"heard first" in shown.data
    assert [method for method, _ in requests(tmp_path)] == [
        *("initialize", "session/new", "session/set_mode", "session/prompt")
    ]
    assert requests(tmp_path)[2][1] == {"sessionId": "the-clis-id", "modeId": "plan"}
    (tmp_path / "requests.jsonl").unlink()
    assert await end(start(gemini, "second", preface="before")) is None
    assert requests(tmp_path)[1] == (
        "session/load",
        {"sessionId": "the-clis-id", "cwd": str(tmp_path), "mcpServers": []},
    )
    assert requests(tmp_path)[3][1]["prompt"] == [{"type": "text", "text": "before\n\nsecond"}]


async def test_a_conversation_that_was_begun_outside_is_loaded(gemini, tmp_path):
    """Its id is the CLI's own."""
    assert await end(start(gemini, "first", conversation="imported", known=True)) is None
    assert requests(tmp_path)[1][1]["sessionId"] == "imported"


async def test_an_interrupt_ends_the_wait_for_the_next_minute(gemini, tmp_path, shown, monkeypatch):
    """The wait is shown; no request is sent meanwhile, and the interrupt ends it at once."""
    monkeypatch.setattr(driver, "seconds_until_loadable", lambda *_: 1000.0)
    run = start(gemini, "first", known=True)
    assert b"Waits 1000 s" in shown.data
    run.interrupt()
    assert await end(run) == "The turn was interrupted."
    assert not (tmp_path / "requests.jsonl").exists() or "session/load" not in dict(requests(tmp_path))


async def test_the_prompt_is_sent_after_the_wait(gemini, tmp_path, monkeypatch):
    """The wait ends by itself."""
    monkeypatch.setattr(driver, "seconds_until_loadable", lambda *_: 0.01)
    assert await end(start(gemini, "first", known=True)) is None
    assert "session/prompt" in dict(requests(tmp_path))


@pytest.mark.parametrize(
    ("opened_at", "now", "seconds"),
    [
        (MINUTE, MINUTE, 60.5),
        (MINUTE, MINUTE + 59.0, 1.5),
        (MINUTE, MINUTE + 60, 0.0),
        (MINUTE - 60, MINUTE, 0.0),
    ],
)
def test_a_conversation_is_not_opened_twice_within_a_minute(tmp_path, monkeypatch, opened_at, now, seconds):
    """Gemini CLI names its file by the minute, in UTC, and would write it anew. Other conversations do not count."""
    monkeypatch.setenv("GEMINI_CLI_HOME", str(tmp_path))
    opened(tmp_path, opened_at, "1d5e72fa-64a3-49ad-95e4-481e549544af")
    assert seconds_until_loadable("1d5e72fa-64a3-49ad-95e4-481e549544af", now) == pytest.approx(seconds)
    assert seconds_until_loadable("2d5e72fa-64a3-49ad-95e4-481e549544af", now) == 0.0
