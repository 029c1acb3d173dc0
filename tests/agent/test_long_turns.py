"""A turn of many steps: what the agent keeps of it in memory."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.drivers.step_recorder import StepRecorder
from onsembl.agent.rendering.turn import TurnRenderer
from onsembl.protocol.turn_steps import MAX_STEP_TEXT

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUBAGENTS = 200
BYTES_A_CALL, BYTES_FOR_ALL = 1024, 2 * 2**20
"""The most that is kept of a call, whose result has 4 kB, and of the rest, which has one result of 5 MB."""


def call(identity: str, name: str, parent: str | None) -> bytes:
    block = {"type": "tool_use", "id": identity, "name": name, "input": {"command": f"echo {identity}"}}
    return json.dumps({"type": "assistant", "parent_tool_use_id": parent, "message": {"content": [block]}}).encode()


def result(identity: str, text: str, parent: str | None) -> bytes:
    block = {"type": "tool_result", "tool_use_id": identity, "content": text}
    return json.dumps({"type": "user", "parent_tool_use_id": parent, "message": {"content": [block]}}).encode()


@pytest.mark.parametrize("calls", [2000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_turn_of_many_steps_takes_little_memory(calls):
    """200 subagents make many calls side by side; results leave the memory when they are shown and kept."""
    run, recorder = ClaudeTranslator("go", uuid4(), None), StepRecorder()
    renderer = TurnRenderer(lambda: 80)
    steps: dict[int, int] = {}

    def feed(line: bytes) -> None:
        for event in run.receive(line + b"\n"):
            renderer.render(event)
            for step in recorder.record(event, 0, 0, NOW):
                steps[step.number] = len(step.result)

    tracemalloc.start()
    try:
        for number in range(SUBAGENTS):
            feed(call(f"agent{number}", "Agent", None))
        for number in range(calls - SUBAGENTS):
            parent = f"agent{number % SUBAGENTS}"
            feed(call(f"call{number}", "Bash", parent))
            feed(result(f"call{number}", "x" * 4000, parent))
        feed(call("huge", "Bash", None))
        feed(result("huge", "y" * 5 * 2**20, None))
        for number in range(SUBAGENTS):
            feed(result(f"agent{number}", "done", None))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(steps) == calls + 1
    assert max(steps.values()) <= MAX_STEP_TEXT
    assert kept < calls * BYTES_A_CALL + BYTES_FOR_ALL
    print(f"kept after {calls} steps: {kept / 2**20:.1f} MB")
