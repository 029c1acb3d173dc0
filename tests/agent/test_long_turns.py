"""A turn of many steps: what the agent keeps of it in memory."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from support.long_turns import SUBAGENTS, begin, go_on

from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.drivers.step_recorder import StepRecorder
from onsembl.agent.rendering.turn import TurnRenderer
from onsembl.protocol.turn_steps import MAX_STEP_TEXT

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BYTES_A_CALL, BYTES_FOR_ALL = 1024, 2 * 2**20
"""The most that is kept of a call, whose result has 4 kB, and of the rest, which has one result of 5 MB."""


@pytest.mark.parametrize("calls", [2000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_turn_of_many_steps_takes_little_memory(calls):
    """200 subagents make many calls side by side; results leave the memory when they are shown and kept."""
    run, recorder = ClaudeTranslator("go", uuid4(), None), StepRecorder()
    renderer = TurnRenderer(lambda: 80)
    steps: dict[int, int] = {}

    def feed(line: bytes) -> None:
        for event in run.receive(line):
            renderer.render(event)
            for step in recorder.record(event, 0, 0, NOW):
                steps[step.number] = len(step.result)

    tracemalloc.start()
    try:
        for line in [*begin(0), *go_on(calls - SUBAGENTS)]:
            feed(line)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(steps) == calls + 1
    assert max(steps.values()) <= MAX_STEP_TEXT
    assert kept < calls * BYTES_A_CALL + BYTES_FOR_ALL
    print(f"kept after {calls} steps: {kept / 2**20:.1f} MB")
