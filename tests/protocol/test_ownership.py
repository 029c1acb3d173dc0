"""Instances and sweepers that are stopped, killed and restarted at any time, and clocks that jump: in the end the
database says of each agent what is true.

The decisions are real (`Liveness`, `differences`); processes, database and time are simulated. A pause can fall between
a look and its consequence, and between a heartbeat and the comparison after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from onsembl.protocol.ids import AgentId, Epoch, InstanceId
from onsembl.protocol.liveness import Liveness
from onsembl.protocol.ownership import Differences, Presence, differences

DEAD_AFTER = 40
AGENTS = [AgentId(UUID(int=number)) for number in (1, 2, 3)]
EXAMPLES = 60


@dataclass
class Database:
    """The rows. `stopped` while nobody gets an answer; `wall` is its clock, by which nobody must judge."""

    numbers: dict[InstanceId, str] = field(default_factory=dict)
    agents: dict[AgentId, Presence] = field(default_factory=lambda: dict.fromkeys(AGENTS, Presence(Epoch(0), None)))
    beaten_at: dict[InstanceId, int] = field(default_factory=dict)
    beaten_at_wall: dict[InstanceId, int] = field(default_factory=dict)
    wall: int = 0
    stopped: bool = False
    _transaction: int = 0

    def beat(self, id: InstanceId, now: int) -> None:
        self._transaction += 1
        self.numbers[id] = str(self._transaction)
        self.beaten_at[id] = now
        self.beaten_at_wall[id] = now + self.wall

    def remove(self, id: InstanceId) -> None:
        """Remove an instance and mark its agents offline, as a sweep does in one transaction."""
        del self.numbers[id]
        for agent, row in self.agents.items():
            if row.instance_id == id:
                self.agents[agent] = Presence(row.epoch, None)


@dataclass
class Instance:
    """An API process; its links are the sockets that it takes for open."""

    id: InstanceId
    next_beat: int
    links: dict[AgentId, Epoch] = field(default_factory=dict)
    paused: bool = False
    to_compare: bool = False


@dataclass
class Sweeper:
    """A worker; its clock is the world's, less the time that its machine was suspended."""

    behind: int = 0
    paused: bool = False
    liveness: Liveness[InstanceId] = field(default_factory=lambda: Liveness[InstanceId](DEAD_AFTER))
    next_look: int = 0
    reading: tuple[int, dict[InstanceId, str]] | None = None
    found: dict[InstanceId, str] | None = None


class PresenceMachine(RuleBasedStateMachine):
    """Two instances, two sweepers and three agents."""

    compare = staticmethod(differences)
    judged_by_wall = False
    compares_numbers = True

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.database = Database()
        self.made = 0
        self.instances = [self.new_instance(), self.new_instance()]
        self.sweepers = [Sweeper(), Sweeper()]
        self.sockets: dict[AgentId, tuple[InstanceId, Epoch]] = {}
        """The sockets as the agents see them."""

    def new_instance(self) -> Instance:
        self.made += 1
        id = InstanceId(UUID(int=100 + self.made))
        self.database.beat(id, self.now)
        return Instance(id, self.now + DEAD_AFTER // 4)

    # What happens

    @rule(seconds=st.integers(1, 60))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            if self.database.stopped:
                continue
            for instance in self.instances:
                if not instance.paused:
                    self.instance_acts(instance)
            for sweeper in self.sweepers:
                if not sweeper.paused:
                    self.sweeper_acts(sweeper)

    @rule(pick=st.integers(0, 1), paused=st.booleans())
    def an_instance_pauses(self, pick: int, paused: bool) -> None:
        self.instances[pick].paused = paused

    @rule(pick=st.integers(0, 1))
    def an_instance_restarts(self, pick: int) -> None:
        if self.database.stopped:
            return  # it does not come up
        killed, self.instances[pick] = self.instances[pick], self.new_instance()
        self.sockets = {agent: socket for agent, socket in self.sockets.items() if socket[0] != killed.id}

    @rule(pick=st.integers(0, 1), paused=st.booleans())
    def a_sweeper_pauses(self, pick: int, paused: bool) -> None:
        self.sweepers[pick].paused = paused

    @rule(pick=st.integers(0, 1), seconds=st.integers(1, 200))
    def a_sweepers_machine_was_suspended(self, pick: int, seconds: int) -> None:
        """Its clock stood still, while the others worked on."""
        sweeper = self.sweepers[pick]
        paused, sweeper.paused = sweeper.paused, True
        self.time_passes(seconds)
        sweeper.paused, sweeper.behind = paused, sweeper.behind + seconds

    @rule(pick=st.integers(0, 1))
    def a_sweeper_restarts(self, pick: int) -> None:
        self.sweepers[pick] = Sweeper(behind=self.now)

    @rule(stopped=st.booleans())
    def the_database_stops(self, stopped: bool) -> None:
        self.database.stopped = stopped

    @rule(seconds=st.integers(-4000, 4000))
    def the_databases_clock_jumps(self, seconds: int) -> None:
        self.database.wall += seconds

    @rule(agent=st.sampled_from(AGENTS), pick=st.integers(0, 1))
    def an_agent_connects(self, agent: AgentId, pick: int) -> None:
        """It leaves its present socket, whose end its instance may not notice."""
        instance = self.instances[pick]
        if instance.paused or self.database.stopped or instance.id not in self.database.numbers:
            return  # an instance without a row can write none for its agents
        epoch = Epoch(self.database.agents[agent].epoch + 1)
        self.database.agents[agent] = Presence(epoch, instance.id)
        instance.links[agent] = epoch
        self.sockets[agent] = (instance.id, epoch)

    @rule(agent=st.sampled_from(AGENTS), written=st.booleans())
    def an_agent_leaves(self, agent: AgentId, written: bool) -> None:
        """Its instance notices; the write of that may fail."""
        if (socket := self.sockets.get(agent)) is None:
            return
        instance = next(one for one in self.instances if one.id == socket[0])
        if instance.paused or instance.links.get(agent) != socket[1]:
            return
        del self.sockets[agent], instance.links[agent]
        if written and not self.database.stopped:
            self.disconnected(agent, socket[1])

    # How processes act

    def instance_acts(self, instance: Instance) -> None:
        if instance.to_compare:
            instance.to_compare = False
            self.correct(instance)
        elif self.now >= instance.next_beat:
            self.database.beat(instance.id, self.now)
            instance.next_beat, instance.to_compare = self.now + DEAD_AFTER // 4, True

    def correct(self, instance: Instance) -> None:
        rows = {
            agent: row
            for agent, row in self.database.agents.items()
            if agent in instance.links or row.instance_id == instance.id
        }
        found = self.compare(instance.id, instance.links, rows)
        for agent, epoch in (found.superseded | found.lost).items():
            del instance.links[agent]
            if self.sockets.get(agent) == (instance.id, epoch):
                assert agent not in found.superseded, "the agent's newest connection was ended for ever"
                del self.sockets[agent]
            self.disconnected(agent, epoch)
        for agent, epoch in found.gone.items():
            self.disconnected(agent, epoch)

    def disconnected(self, agent: AgentId, epoch: Epoch) -> None:
        if self.database.agents[agent].epoch == epoch:
            self.database.agents[agent] = Presence(epoch, None)

    def sweeper_acts(self, sweeper: Sweeper) -> None:
        now = self.now - sweeper.behind
        if sweeper.found is not None:
            for id, number in sweeper.found.items():
                if not self.compares_numbers or self.database.numbers.get(id) == number:
                    assert self.now - self.database.beaten_at[id] >= DEAD_AFTER, "a living instance was taken for dead"
                    self.database.remove(id)
            sweeper.found = None
        elif sweeper.reading is not None:
            began, numbers = sweeper.reading
            sweeper.reading, sweeper.found = None, sweeper.liveness.look(began, now, numbers)
            if self.judged_by_wall:
                sweeper.found = {
                    id: number
                    for id, number in numbers.items()
                    if self.now + self.database.wall - self.database.beaten_at_wall[id] > DEAD_AFTER
                }
        elif now >= sweeper.next_look:
            sweeper.reading = (now, dict(self.database.numbers))
            sweeper.next_look = now + DEAD_AFTER // 4

    # What holds

    @invariant()
    def at_most_one_instance_owns_an_agent(self) -> None:
        for agent, row in self.database.agents.items():
            owners = [one.id for one in self.instances if one.links.get(agent) == row.epoch]
            assert len(owners) <= 1, "two own one"

    def teardown(self) -> None:
        """All goes on but the second instance, if it is paused: it is dead. Agents without a socket connect. In the end
        the rows say what is true."""
        self.database.stopped = False
        self.instances[0].paused = False
        for sweeper in self.sweepers:
            sweeper.paused = False
        for _ in range(2):
            self.time_passes(4 * DEAD_AFTER)
            for agent in AGENTS:
                if agent not in self.sockets:
                    self.an_agent_connects(agent, 0)
        living = {one.id: one for one in self.instances if not one.paused}
        for agent, row in self.database.agents.items():
            instance_id, epoch = self.sockets.get(agent, (None, None))
            if instance_id in living:
                assert living[instance_id].links[agent] == epoch
                assert row == Presence(epoch, instance_id), "its socket is open, and it is offline"
            else:
                assert row.instance_id is None, "its instance is dead, and it is online"
        for instance in living.values():
            open_here = {agent: socket[1] for agent, socket in self.sockets.items() if socket[0] == instance.id}
            assert instance.links == open_here, "an instance holds a connection that its agent has left"


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(5000, marks=pytest.mark.soak)])
def test_in_the_end_the_rows_say_what_is_true(examples: int) -> None:
    """An agent whose socket is open at a living instance is online there, an agent of a dead one is offline, and no two
    instances own one agent."""
    run_state_machine_as_test(PresenceMachine, settings=settings(max_examples=examples, stateful_step_count=30))


# Checks that the machine finds a missing guard


def _judge_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PresenceMachine, "judged_by_wall", True)


def _compare_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PresenceMachine, "compare", staticmethod(lambda *_: Differences()))


def _act_on_an_old_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PresenceMachine, "compares_numbers", False)


PAUSE, RESUME = ("an_instance_pauses", 0, True), ("an_instance_pauses", 0, False)
CONNECT = ("an_agent_connects", AGENTS[0], 0)
GUARDS = [
    (_judge_by_the_clock, "a living instance", [CONNECT, ("the_databases_clock_jumps", 3600), ("time_passes", 9)]),
    (_compare_nothing, "its socket is open", [CONNECT, PAUSE, ("time_passes", 60), RESUME]),
    (
        _act_on_an_old_look,
        "a living instance",
        [
            ("a_sweeper_pauses", 1, True),
            PAUSE,
            ("time_passes", 52),  # the look is over, and says that the instance is dead
            ("a_sweeper_pauses", 0, True),
            RESUME,
            ("time_passes", 5),
            ("a_sweeper_pauses", 0, False),
            ("time_passes", 1),
        ],
    ),
]
"""For each guard: the function that removes it, the failure without it, and steps that lead there."""


@pytest.mark.parametrize(
    ("remove", "said", "steps"), GUARDS, ids=[remove.__name__.strip("_") for remove, _, _ in GUARDS]
)
def test_a_missing_guard_is_seen(
    monkeypatch: pytest.MonkeyPatch, remove: Callable[[pytest.MonkeyPatch], None], said: str, steps: list[tuple]
) -> None:
    """The steps pass with the guard and fail without it."""
    _take(steps)
    remove(monkeypatch)
    with pytest.raises(AssertionError, match=said):
        _take(steps)


def _take(steps: list[tuple]) -> None:
    machine = PresenceMachine()
    for name, *values in steps:
        getattr(PresenceMachine, name)(machine, *values)
        machine.at_most_one_instance_owns_an_agent()
    machine.teardown()
