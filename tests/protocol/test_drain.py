"""The plan of a drain moves each agent once, a few at a time, and ends in time whatever the agents do."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from onsembl.protocol.drain import FEWEST_MOVING, MOVE_SECONDS, SETTLE_SECONDS, STUCK_SECONDS, DrainPlan

LONGEST = 10.0
LOOK = 0.05


def ids(count: int, first: int = 0) -> list[UUID]:
    return [UUID(int=number + 1) for number in range(first, first + count)]


def run(
    plan: DrainPlan, held: set[UUID], away_after: dict[UUID, float], late: Iterable[tuple[float, UUID]] = ()
) -> tuple[dict[UUID, float], float]:
    """Follow the plan from the time 0: an agent has left `away_after` seconds after it was moved, or stays. Agents in
    `late` come after so many seconds. Returns when each agent was moved, and when the drain was done."""
    moved, coming = dict[UUID, float](), sorted(late)
    for number in range(10_000):
        now = number * LOOK
        while coming and coming[0][0] <= now:
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
    agents = ids(count)
    moved, done = run(DrainPlan(agents, 0.0, longest), set(agents), dict(zip(agents, away, strict=False)), late)
    assert all(moved[agent] <= longest + LOOK for agent in agents)
    assert done <= max([longest, *moved.values()]) + SETTLE_SECONDS + LOOK


def test_a_few_agents_are_on_their_way_at_a_time():
    """The next agent is moved when one has arrived; with very many, as many at a time as the time requires."""
    for count in (40, 1000):
        agents, most = ids(count), max(FEWEST_MOVING, count * MOVE_SECONDS / LONGEST)
        moved, done = run(DrainPlan(agents, 0.0, LONGEST), set(agents), dict.fromkeys(agents, 0.3))
        for at in moved.values():
            assert sum(at - 0.2 < other <= at for other in moved.values()) <= most
        assert done <= LONGEST


def test_an_agent_that_is_stuck_holds_up_no_other():
    """Agents that do not arrive keep their places for a while, and then the next ones are moved."""
    agents = ids(3 * FEWEST_MOVING)
    stuck = agents[:FEWEST_MOVING]
    away = dict.fromkeys(agents[FEWEST_MOVING:], 0.1)
    moved, done = run(DrainPlan(agents, 0.0, LONGEST), set(agents), away)
    assert {moved[agent] for agent in stuck} == {0.0}
    assert STUCK_SECONDS <= min(moved[agent] for agent in away) <= max(moved.values()) <= STUCK_SECONDS + 1
    assert SETTLE_SECONDS <= done - max(moved.values()) <= SETTLE_SECONDS + 2 * LOOK


def test_an_instance_that_holds_nothing_is_done_at_once():
    """Without agents and viewers there is nothing to wait for, also when all leave by themselves."""
    assert DrainPlan([], 5.0, LONGEST).step([], 5.0).done
    assert DrainPlan(ids(100), 5.0, LONGEST).step([], 5.0).done


def test_a_second_signal_shortens_the_drain():
    """All agents that are left are told at once, and nobody is waited for."""
    agents = ids(100)
    plan = DrainPlan(agents, 0.0, LONGEST)
    first = plan.step(agents, 0.0)
    assert first.move == agents[:FEWEST_MOVING] and not first.done
    plan.shorten()
    last = plan.step(agents, 0.01)
    assert last.move == agents[FEWEST_MOVING:] and last.done
