"""The agent's side of the emergency stop: halts by their numbers, in whatever order they are heard of."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psutil
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.emergency_stop import Standing
from onsembl.agent.process import tree as process_tree
from onsembl.agent.process.escalation import Ladder
from onsembl.agent.process.tree import nothing_left, survivors
from onsembl.protocol.messages import Halt
from onsembl.protocol.stop_timeouts import StopTimeouts


def halt(number: int) -> Halt:
    return Halt(halt_id=UUID(int=number), number=number, seconds=2.0)


def test_a_late_halt_does_not_come_back_after_its_lift():
    """The lift came first, over a newer connection."""
    standing = Standing()
    assert not standing.lift(3)
    assert not standing.begin(halt(3))
    assert standing.halt is None
    assert standing.begin(halt(4))


def test_a_lift_of_an_older_halt_does_not_end_a_newer_one():
    """Halted, lifted and halted again, and the lift is late."""
    standing = Standing()
    assert standing.begin(halt(2))
    assert not standing.lift(1)
    assert standing.halt == halt(2)


@given(st.integers(0, 4), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_in_which_it_is_heard_does_not_matter(count, last_lifted, random):
    """Whatever comes late, twice or in another order: the agent is halted exactly when the newest halt is in force."""
    heard: list[tuple[str, int]] = []
    for number in range(1, count + 1):
        heard.append(("begin", number))
        if number < count or last_lifted:
            heard.append(("lift", number))
    heard = heard * 2
    random.shuffle(heard)
    standing = Standing()
    for what, number in heard:
        if what == "begin":
            standing.begin(halt(number))
        else:
            standing.lift(number)
    assert (standing.halt is not None) == (count > 0 and not last_lifted)


def test_what_an_earlier_run_left_and_would_not_die_is_no_proof(monkeypatch):
    """It is no child of the agent, which has none: still something lives."""
    reaper: Any = SimpleNamespace(adopts=True, collect=lambda: None, childless=lambda: True)
    monkeypatch.setattr(process_tree, "_descendants", lambda _process: [])
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        process = psutil.Process(stranger.pid)
        monkeypatch.setattr(process_tree, "_given_up", {process})
        assert survivors(reaper) == [process]
        assert not nothing_left(reaper)
    finally:
        stranger.kill()
        stranger.wait()
    assert nothing_left(reaper)


@given(st.floats(0.1, 60), st.lists(st.floats(0, 30), max_size=8))
def test_a_ladder_that_is_hurried_is_over_in_time(seconds, climbed_at):
    """Wherever it stood: from the moment it is told, it takes no longer than the quick ladder does."""
    ladder = Ladder(StopTimeouts(), 0.0)
    now = 0.0
    for later in climbed_at:
        now += later
        ladder.climb(now)
    told = now
    ladder.hurry(StopTimeouts.within(seconds), told)
    while True:
        now = max(now, ladder.deadline)
        if ladder.climb(now) == "failed":
            break
    assert now - told <= seconds + 1e-6
