"""The emergency stop on the agent's side: halts and lifts in any order, and the proof that no process is left."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psutil
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.emergency_stop import HaltTracker
from onsembl.agent.process import tree as process_tree
from onsembl.agent.process.tree import no_process_left, surviving_processes
from onsembl.protocol.messages import Halt


def halt(number: int) -> Halt:
    return Halt(halt_id=UUID(int=number), number=number, seconds=2.0)


def test_a_halt_that_comes_after_its_lift_is_ignored():
    """The lift was faster, over a newer connection."""
    tracker = HaltTracker()
    assert not tracker.lift(3)
    assert not tracker.begin(halt(3))
    assert tracker.halt is None
    assert tracker.begin(halt(4))


def test_a_late_lift_of_an_older_halt_does_not_lift_a_newer_one():
    """The fleet was halted, lifted and halted again before the lift came."""
    tracker = HaltTracker()
    assert tracker.begin(halt(2))
    assert not tracker.lift(1)
    assert tracker.halt == halt(2)


@given(st.integers(0, 4), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_halts_and_lifts_does_not_matter(count, last_lifted, random):
    """With messages that are late, repeated or reordered, the agent is halted if and only if the newest halt is."""
    heard: list[tuple[str, int]] = []
    for number in range(1, count + 1):
        heard.append(("begin", number))
        if number < count or last_lifted:
            heard.append(("lift", number))
    heard = heard * 2
    random.shuffle(heard)
    tracker = HaltTracker()
    for what, number in heard:
        if what == "begin":
            tracker.begin(halt(number))
        else:
            tracker.lift(number)
    assert (tracker.halt is not None) == (count > 0 and not last_lifted)


def test_a_surviving_process_of_an_earlier_run_prevents_the_proof(monkeypatch):
    """It is no child of the agent, which has none; still a process of a command is alive."""
    reaper: Any = SimpleNamespace(adopts=True, collect=lambda: None, childless=lambda: True)
    monkeypatch.setattr(process_tree, "_descendants", lambda _process: [])
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        process = psutil.Process(stranger.pid)
        monkeypatch.setattr(process_tree, "_unkillable", {process})
        assert surviving_processes(reaper) == [process]
        assert not no_process_left(reaper)
    finally:
        stranger.kill()
        stranger.wait()
    assert no_process_left(reaper)
