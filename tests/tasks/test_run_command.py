"""Commands under any order of events: no command runs twice, none is forgotten, an agent runs one at a time, and final
states are true and stay. `ONSEMBL_MACHINE_EXAMPLES` is the number of sequences that the long form tries (150)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import structs
from psycopg.rows import DictRow
from support.folders import data_folder
from support.missing_guards import remove_from_function
from support.simulated_agents import SimulatedAgent, SimulatedLink
from support.simulated_center import SimulatedCenter
from support.simulated_worker import timeless_jobs

from onsembl.agent.link.journal import Journal
from onsembl.api.terminals import hub
from onsembl.protocol.ids import AgentId, CommandId, Epoch
from onsembl.protocol.messages import Offer, ServerToAgentMessage
from onsembl.protocol.states import CommandState
from onsembl.sql import agents
from onsembl.sql.database import Connection, create_pool
from onsembl.tasks import run_command

__all__ = ["timeless_jobs"]
EXAMPLES = int(os.environ.get("ONSEMBL_MACHINE_EXAMPLES", "150"))
STEPS_EACH = 50
MAX_GOING_ON = 4
ROUNDS = 25
"""The number of rounds within which every command ends."""
FINAL = {"succeeded", "failed", "cancelled", "timed_out", "lost"}
FACTS = ("state", "ended_at", "exit_code", "error")
WEIGHTS = {
    "send": 6,
    "steer": 3,
    "a_text_is_taken": 3,
    "all_goes_well": 5,
    "connect": 4,
    "an_agent_hears": 5,
    "the_server_hears": 5,
    "a_program_ends": 3,
    "cancel": 2,
    "a_job_is_taken": 4,
    "leave": 2,
    "notice": 2,
    "the_server_hears_late": 2,
    "a_job_hears": 2,
    "a_job_gives_up": 4,
    "jobs_are_aborted": 2,
    "an_agent_restarts": 1,
    "the_worker_ends": 1,
    "sweep": 1,
    "attend": 1,
    "tell": 1,
    "cancel_all": 1,
    "pause": 1,
    "resume": 3,
    "halt": 1,
    "lift": 3,
    "fill": 2,
    "room": 3,
}
"""The steps, each as often as its weight: with equal weights few commands would ever run."""
STEPS = [step for step, weight in WEIGHTS.items() for _ in range(weight)]


class CommandMachine(RuleBasedStateMachine):
    """The state machine; the test sets `run` and `center_of`, because it owns the event loop and the database."""

    run: Any
    center_of: Any

    @initialize(agents=st.integers(1, 2), deliveries=st.integers(1, 2))
    def begin(self, agents: int, deliveries: int) -> None:
        run_command.MAX_DELIVERIES = deliveries
        self.center: SimulatedCenter = self.center_of()
        self.touched = False
        self.halted = False
        self.paused: set[SimulatedAgent] = set()
        self.problems: set[AgentId] = set()
        self.rows: dict[CommandId, DictRow] = {}
        self.sent: set[CommandId] = set()
        self.do(self.center.start(agents))
        for pick in range(agents):
            self._connect(pick, False)

    @rule(step=st.sampled_from(STEPS), pick=st.integers(0, 7), flag=st.booleans())
    def step(self, step: str, pick: int, flag: bool) -> None:
        """Run a step on the object that `pick` selects; without an object, do nothing."""
        getattr(self, f"_{step}")(pick, flag)

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Have the control center do something, and read its rows again afterwards."""
        self.touched = True
        return self.run(what)

    def _agent(self, pick: int) -> SimulatedAgent:
        return self.center.agents[pick % len(self.center.agents)]

    @property
    def _links(self) -> list[SimulatedLink]:
        return [agent.link for agent in self.center.agents if agent.link is not None]

    # Operators

    def _send(self, pick: int, told: bool) -> None:
        if sum(row["state"] not in FINAL for row in self.rows.values()) < MAX_GOING_ON:
            self.sent.add(self.do(self.center.send(self._agent(pick), 1 + pick % 3, told)))

    def _steer(self, pick: int, told: bool) -> None:
        if sum(row["state"] not in FINAL for row in self.rows.values()) < MAX_GOING_ON:
            self.sent.add(self.do(self.center.steer(self._agent(pick), told)))

    def _cancel(self, pick: int, told: bool) -> None:
        if self.rows:
            self.do(self.center.cancel(list(self.rows)[-1 - pick % len(self.rows)], told))

    def _cancel_all(self, pick: int, _flag: bool) -> None:
        self.do(self.center.cancel_all(self._agent(pick)))

    def _pause(self, pick: int, _flag: bool) -> None:
        agent = self._agent(pick)
        self.paused.add(agent)
        self.do(self.center.pause(agent))

    def _resume(self, pick: int, _flag: bool) -> None:
        agent = self._agent(pick)
        self.paused.discard(agent)
        self.do(self.center.resume(agent))

    def _halt(self, _pick: int, _flag: bool) -> None:
        self.halted = True
        self.do(self.center.halt())

    def _lift(self, _pick: int, _flag: bool) -> None:
        self.halted = False
        self.do(self.center.lift())

    # Agents and their links

    def _connect(self, pick: int, _flag: bool) -> None:
        self.do(self.center.connect(self._agent(pick)))

    def _leave(self, pick: int, _flag: bool) -> None:
        self.center.leave(self._agent(pick))

    def _notice(self, pick: int, _flag: bool) -> None:
        if self.center.broken_links:
            self.do(self.center.detect_broken_link(self.center.broken_links[pick % len(self.center.broken_links)]))

    def _an_agent_hears(self, pick: int, twice: bool) -> None:
        agent = self._agent(pick)
        if agent.link is not None and agent.link.to_agent:
            message = agent.link.to_agent.popleft()
            for _ in range(1 + twice):
                agent.receive(message)

    def _the_server_hears(self, pick: int, twice: bool) -> None:
        self._hear(self._links, pick, twice)

    def _the_server_hears_late(self, pick: int, twice: bool) -> None:
        self._hear(self.center.broken_links, pick, twice)

    def _hear(self, links: list[SimulatedLink], pick: int, twice: bool) -> None:
        links = [link for link in links if link.to_server]
        if links:
            link = links[pick % len(links)]
            if twice:
                link.to_server.appendleft(link.to_server[0])
                self.do(self.center.receive(link))
            self.do(self.center.receive(link))

    def _a_program_ends(self, pick: int, fails: bool) -> None:
        agent = self._agent(pick)
        if agent.running is not None:
            agent.exit("cancelled" if agent.stopping else "failed" if fails else "succeeded")

    def _a_text_is_taken(self, pick: int, _flag: bool) -> None:
        agent = self._agent(pick)
        if agent.running is not None:
            agent.take_text()

    def _an_agent_restarts(self, pick: int, _flag: bool) -> None:
        agent = self._agent(pick)
        self.center.leave(agent)
        agent.restart()

    def _fill(self, pick: int, unnoticed: bool) -> None:
        self._agent(pick).fill_disk(noticed=not unnoticed)

    def _room(self, pick: int, _flag: bool) -> None:
        self._agent(pick).make_room()

    # The server

    def _a_job_is_taken(self, _pick: int, _flag: bool) -> None:
        self.do(self.center.worker.take_job())

    def _a_job_hears(self, pick: int, _flag: bool) -> None:
        if jobs := self.center.worker.jobs:
            self.do(self.center.worker.notify(jobs[pick % len(jobs)]))

    def _a_job_gives_up(self, pick: int, _flag: bool) -> None:
        if jobs := self.center.worker.jobs:
            self.do(self.center.worker.time_out(jobs[pick % len(jobs)]))

    def _jobs_are_aborted(self, _pick: int, _flag: bool) -> None:
        self.do(self.center.worker.abort())

    def _the_worker_ends(self, _pick: int, drained: bool) -> None:
        self.do(self.center.worker.drain() if drained else self.center.worker.die())

    def _sweep(self, _pick: int, _flag: bool) -> None:
        self.do(self.center.sweep())

    def _tell(self, _pick: int, _flag: bool) -> None:
        self.do(self.center.sync_halt())

    def _attend(self, pick: int, _flag: bool) -> None:
        self.do(self.center.sync_agent(self._agent(pick).id))

    def _all_goes_well(self, _pick: int, ends: bool) -> None:
        """Every message arrives, and programs end."""
        self._a_job_is_taken(0, False)
        for agent in self.center.agents:
            link = agent.link
            if link is not None:
                while link.to_agent:
                    agent.receive(link.to_agent.popleft())
                if agent.running is not None and ends:
                    agent.exit("cancelled" if agent.stopping else "succeeded")
                while link.to_server:
                    self.do(self.center.receive(link))

    # Invariants

    @invariant()
    def it_holds(self) -> None:
        before, problems = self.rows, self.problems
        if self.touched:
            self.rows, self.touched = self.run(self.center.rows()), False
            self.problems = self.run(self.center.with_a_problem())
        assert set(self.rows) == self.sent
        for id, row in before.items():
            if row["state"] in FINAL:
                assert all(self.rows[id][fact] == row[fact] for fact in FACTS), "a final state has changed"
        for agent in self.center.agents:
            begun = [*agent.started, *agent.given]
            # A text that was given, and that its turn has certainly not taken, is a command of its own.
            again = set(agent.started) & (set(agent.given) - {*agent.taken, *agent.unsure})
            assert len(begun) == len(set(begun)) + len(again), "a command ran twice"
            active = {id for id, row in self.rows.items() if row["agent_id"] == agent.id and _is_active(row)}
            assert len(active) <= 1, "two at once"
            new = {id for id in active if id not in before or not _is_active(before[id])}
            withheld = self.halted or agent in self.paused or agent.id in problems & self.problems
            assert not (new and withheld), "given out against the order"
            if agent.running is not None and agent.running not in active:
                # The server gave the command up, and cancels it when the agent reports that it runs.
                assert self.rows[CommandId(agent.running)]["state"] == "failed", "it runs, and is over"

    def teardown(self) -> None:
        try:
            if self.sent:
                self._come_to_rest()
                self._the_ends_are_so()
        finally:
            self.do(self.center.stop())

    def _come_to_rest(self) -> None:
        """Cancel, cut and kill nothing more; let every command end."""
        self._lift(0, False)
        for pick in range(len(self.center.agents)):
            self._resume(pick, False)
            self._room(pick, False)
        for _ in range(ROUNDS):
            running = [agent for agent in self.center.agents if agent.running is not None]
            waiting = [row for row in self.rows.values() if row["state"] not in FINAL]
            if not running and not waiting and not self.center.worker.jobs:
                return
            self.do(self._round())
            self.it_holds()
        raise AssertionError(f"not at rest: {[(row['state'], row['job_id']) for row in self.rows.values()]}")

    async def _round(self) -> None:
        center = self.center
        for link in list(center.broken_links):
            await center.detect_broken_link(link)
        for agent in center.agents:
            if agent.link is None or agent.link.closed:
                await center.connect(agent)
        await center.sync_halt()
        await center.sweep()
        while await center.worker.take_job():
            pass
        await center.worker.abort()
        for held in list(center.worker.jobs):
            await center.worker.notify(held)
        for agent in center.agents:
            link = agent.link
            assert link is not None
            while link.to_agent:
                agent.receive(link.to_agent.popleft())
            # The agent ends a command that the server has ended or cancelled, because the server sends a cancel.
            row = self.rows.get(CommandId(agent.running)) if agent.running is not None else None
            if agent.stopping:
                agent.exit("cancelled")
            elif row is not None and _is_active(row) and row["cancel_requested_at"] is None:
                agent.exit("succeeded")
            while link.to_server:
                await center.receive(link)

    def _the_ends_are_so(self) -> None:
        ends = {id: outcome for agent in self.center.agents for id, outcome in agent.ends.items()}
        for id, row in self.rows.items():
            if id in ends and row["error"] != "The agent did not take the command up.":
                assert row["state"] == ends[id], "what is written is not what was"
            elif id not in ends:
                taken = any(id in agent.taken for agent in self.center.agents)
                unsure = any(id in agent.unsure for agent in self.center.agents)
                wanted = ("succeeded", "lost") if taken else ("lost",) if unsure else ("cancelled", "failed")
                assert row["state"] in wanted, "it never ran"
            if row["state"] == "cancelled":
                assert row["cancel_requested_at"] is not None, "nobody asked for that"


def _is_active(row: DictRow) -> bool:
    return CommandState(row["state"]).is_active


@pytest.fixture
def machine(database_url: str, timeless_jobs: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[CommandMachine]]:
    """The state machine, on a database of its own."""
    monkeypatch.setattr(run_command, "MAX_DELIVERIES", run_command.MAX_DELIVERIES)  # restored at the end
    monkeypatch.setattr(hub, "OFFER_AGAIN_SECONDS", 0.0)  # the test's time stands still
    pool = create_pool(database_url, role="onsembl_api", min_size=2, max_size=4)
    statements = create_pool(database_url, role="onsembl_api", min_size=2, max_size=4, autocommit=True)

    async def opened() -> None:
        await pool.open()
        await statements.open()

    async def closed() -> None:
        await pool.close()
        await statements.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, data_folder() as journals:

        class Machine(CommandMachine):
            run = staticmethod(runner.run)
            center_of = staticmethod(lambda: SimulatedCenter(database_url, pool, statements, journals))

        runner.run(opened())
        try:
            yield Machine
        finally:
            runner.run(closed())


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(12, marks=pytest.mark.seconds(3)),
        pytest.param(EXAMPLES, marks=[pytest.mark.soak, pytest.mark.timeout(300 + EXAMPLES)]),
    ],
)
def test_commands_end_once_and_right(machine: type[CommandMachine], examples: int) -> None:
    """Every command ends once and with its true state, in any order of events."""
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=STEPS_EACH))


# Checks that the machine finds a missing guard


Remove = Callable[[str, pytest.MonkeyPatch], None]


def _forget_on_disk(_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted agent does not know the commands that it had accepted."""
    monkeypatch.setattr(Journal, "_load", lambda _self: None)


def _ignore_the_epoch(_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of an agent's older connection marks the agent offline during its newer one."""

    async def disconnected(conn: Connection, agent_id: AgentId, _epoch: Epoch) -> bool:
        await conn.execute("update agents set status = 'offline', instance_id = null where id = %s", [agent_id])
        return True

    monkeypatch.setattr(agents, "disconnected", disconnected)


def _end_again(url: str, _monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a command is written in any state."""
    remove_from_function(url, "end_command", "and c.state in ('dispatched', 'running')")


def _promote_while_halted(url: str, _monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue moves during an emergency stop."""
    remove_from_function(url, "promote", "and not exists (select from onsembl.halts where lifted_at is null)")


def _promote_despite_a_problem(url: str, _monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue moves although its agent takes nothing."""
    remove_from_function(url, "promote", "and problem is null")


def _take_an_old_offer(_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent takes an offer that the server made before it knew of a problem."""
    receive = SimulatedAgent.receive

    def received(agent: SimulatedAgent, message: ServerToAgentMessage) -> None:
        if isinstance(message, Offer):
            message = structs.replace(message, problems=agent._problems)
        receive(agent, message)

    monkeypatch.setattr(SimulatedAgent, "receive", received)


def _give_again(_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent gives a turn the same text each time that it comes."""
    monkeypatch.setattr(Journal, "steer_given", lambda *_: None)


def _ignore_the_fates(url: str, _monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not read what the end of a turn says of its texts."""
    call = "perform onsembl.settle_steers(agent, command, fates, channel, by_name, address);"
    remove_from_function(url, "end_steered_turn", call)


def _keep_the_unknown(url: str, _monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of which nobody can tell whether its turn took it stays in the queue."""
    remove_from_function(url, "release_steers", "when c.steer_state = 'given' then 'lost'")


STEER_INTO_TURN = "send an_agent_hears an_agent_hears the_server_hears steer attend an_agent_hears"
GUARDS = [
    (
        _forget_on_disk,
        "a command ran twice",
        "send an_agent_hears an_agent_hears an_agent_restarts connect an_agent_hears an_agent_hears",
    ),
    (_ignore_the_epoch, "not at rest", "connect notice send"),
    (
        _end_again,
        "a final state has changed",
        "send an_agent_hears an_agent_hears a_job_is_taken a_job_gives_up a_program_ends the_server_hears"
        " the_server_hears",
    ),
    (_promote_while_halted, "given out against the order", "halt send"),
    (_promote_despite_a_problem, "given out against the order", "fill the_server_hears send"),
    (
        _take_an_old_offer,
        "it runs, and is over|two at once",
        "send fill the_server_hears cancel room the_server_hears an_agent_hears an_agent_hears",
    ),
    (_give_again, "a command ran twice", f"{STEER_INTO_TURN} attend an_agent_hears"),
    (_ignore_the_fates, "it never ran", f"{STEER_INTO_TURN} a_program_ends the_server_hears"),
    (_keep_the_unknown, "not at rest", f"{STEER_INTO_TURN} an_agent_restarts connect"),
]
"""For each guard: the function that removes it, the failure of the machine without it, and steps that lead there."""


@pytest.mark.parametrize(
    ("remove", "said", "steps"), GUARDS, ids=[remove.__name__.strip("_") for remove, _, _ in GUARDS]
)
def test_a_missing_guard_is_seen(
    machine: type[CommandMachine],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    remove: Remove,
    said: str,
    steps: str,
) -> None:
    """The steps pass with the guard and fail without it."""
    _take(machine, steps)
    remove(database_url, monkeypatch)
    with pytest.raises(AssertionError, match=said):
        _take(machine, steps)


def _take(machine: type[CommandMachine], steps: str) -> None:
    state = machine()
    try:
        state.begin(agents=1, deliveries=1)
        for step in steps.split():
            state.step(step=step, pick=0, flag=step == "send")
            state.it_holds()
    finally:
        state.teardown()
