"""The machine for the viewers of an agent."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.affinity import KEPT_SECONDS, MAX_KEPT, KeptMachines, fly_address, machine_of, preferred

MACHINES = st.sets(st.text("0123456789abcdef", min_size=4, max_size=14), min_size=1, max_size=6)


@given(MACHINES, st.uuids(), st.text("ghij", min_size=4))
def test_a_machine_that_is_added_or_removed_moves_only_its_own_agents(machines: set[str], agent: UUID, added: str):
    """All instances choose the same machine, whatever the order in which they know them."""
    chosen = preferred(machines, agent)
    assert chosen in machines and chosen == preferred(sorted(machines, reverse=True), agent)
    assert preferred(machines | {added}, agent) in (chosen, added)
    assert preferred(machines - {chosen}, agent) != chosen


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_machine_is_kept_for_a_while(first: int, later: int):
    kept, agent = KeptMachines(), uuid4()
    kept.keep(agent, "one", first)
    known = later - first < KEPT_SECONDS
    assert kept.get(agent, later) == ((True, "one") if known else (False, None))
    kept.forget(agent)
    assert kept.get(agent, first) == (False, None)


def test_only_so_many_machines_are_kept():
    """Asking for ids that no agent has does not fill the memory."""
    kept, agents = KeptMachines(), [uuid4() for _ in range(MAX_KEPT + 10)]
    for agent in agents:
        kept.keep(agent, None, 0.0)
    assert [kept.get(agent, 0.0)[0] for agent in (agents[9], agents[10], agents[-1])] == [False, True, True]


def test_only_an_address_of_fly_names_a_machine():
    assert machine_of(f"{fly_address('148ed', 'onsembl')}:8400") == "148ed"
    assert machine_of("build-1:8400") is machine_of("127.0.0.1") is machine_of("") is None
