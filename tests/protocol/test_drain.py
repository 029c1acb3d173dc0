"""The plan of a drain moves each agent once, spread in time, and ends in time whatever the agents do."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from onsembl.protocol.drain import SETTLE_SECONDS, SPACING_SECONDS, DrainPlan

LONGEST = 10.0


def ids(count: int, first: int = 0) -> list[UUID]:
    return [UUID(int=number + 1) for number in range(first, first + count)]


def run(
    plan: DrainPlan, held: set[UUID], now: float, away_after: dict[UUID, float], late: Iterable[tuple[float, UUID]]
) -> tuple[dict[UUID, float], float]:
    """Follow the plan: an agent has left `away_after` seconds after it was moved, or stays. Agents in `late` come after
    so many seconds. Returns when each agent was moved, and when the drain was done."""
    began, moved, coming = now, dict[UUID, float](), sorted(late)
    for _ in range(10_000):
        while coming and began + coming[0][0] <= now:
            held.add(coming.pop(0)[1])
        held -= {agent for agent, at in moved.items() if now >= at + away_after.get(agent, float("inf"))}
        step = plan.step(held, now)
        for agent in step.move:
            assert agent not in moved, "an agent is moved twice"
            assert agent in held, "an agent is moved that is not here"
            moved[agent] = now
        if step.done:
            assert held <= moved.keys(), "an agent stays that was never told"
            return moved, now
        now += min(step.wait, 0.05) if step.wait > 0 else 0.001
    raise AssertionError("the drain does not end")


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 120),
    longest=st.sampled_from([0.0, 0.3, LONGEST]),
    away=st.lists(st.one_of(st.just(float("inf")), st.floats(0, 8)), min_size=120, max_size=120),
    late=st.lists(st.tuples(st.floats(0, 3), st.sampled_from(ids(5, first=500))), max_size=4),
)
def test_each_agent_is_moved_once_and_the_drain_ends_in_time(count, longest, away, late):
    """Whatever leaves, stays or comes late: nobody is moved twice or forgotten, and the end comes in time."""
    agents, began = ids(count), 100.0
    plan = DrainPlan(agents, began, longest)
    moved, done = run(plan, set(agents), began, dict(zip(agents, away, strict=False)), late)
    assert done - began <= longest + 3 + SETTLE_SECONDS + 1
    if all(agent in moved for agent in agents):
        assert all(at - began <= longest + 0.1 for at in (moved[agent] for agent in agents))


def test_moves_are_spread():
    """Few agents are moved at a fixed interval; many share the time there is."""
    for count, spacing in ((10, SPACING_SECONDS), (2000, LONGEST / 2000)):
        agents = ids(count)
        moved, done = run(DrainPlan(agents, 0.0, LONGEST), set(agents), 0.0, dict.fromkeys(agents, 0.1), [])
        times = sorted(moved.values())
        assert moved.keys() == set(agents)
        assert times[-1] <= count * spacing + 0.1
        burst = 2 + 0.06 / spacing  # what falls due between two looks
        assert max(times.count(at) for at in set(times)) <= burst
        assert all(later - earlier <= 0.1 for earlier, later in pairwise(times))
        assert done <= times[-1] + 0.3


def test_an_instance_that_holds_nothing_is_done_at_once():
    """Without agents and viewers there is nothing to wait for, also when all leave by themselves."""
    assert DrainPlan([], 5.0, LONGEST).step([], 5.0).done
    assert DrainPlan(ids(100), 5.0, LONGEST).step([], 5.0).done


def test_a_second_signal_shortens_the_drain():
    """All agents that are left are told at once, and nobody is waited for."""
    agents = ids(100)
    plan = DrainPlan(agents, 0.0, LONGEST)
    first = plan.step(agents, 0.0)
    assert first.move == agents[:1] and not first.done
    plan.shorten()
    last = plan.step(agents, 0.01)
    assert last.move == agents[1:] and last.done


def test_an_agent_that_does_not_arrive_holds_the_drain_up_for_a_bounded_time():
    """The drain waits `SETTLE_SECONDS` after the last move, not for ever."""
    agents = ids(3)
    moved, done = run(DrainPlan(agents, 0.0, LONGEST), set(agents), 0.0, {}, [])
    assert SETTLE_SECONDS <= done - max(moved.values()) <= SETTLE_SECONDS + 0.1
