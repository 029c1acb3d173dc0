"""The escalation of a stop, against processes that exist only as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.process.escalation import Escalation
from onsembl.protocol.stop_timeouts import StopTimeouts

ORDER = ["interrupt", "sigint", "sigterm", "sigkill", "sweep", "failed"]
TIMEOUTS = StopTimeouts()


@dataclass
class Program:
    """A process that ends `delay` seconds after a stage; "never" is one in uninterruptible sleep."""

    ends_at_stage: str
    delay: float
    in_group: bool
    dies_at: float | None = None


@dataclass
class World:
    """Processes, of which the first is the leader."""

    programs: list[Program]
    now: float = 0.0
    stages: list[tuple[float, str]] = field(default_factory=list)

    def alive(self) -> list[Program]:
        return [program for program in self.programs if program.dies_at is None or program.dies_at > self.now]

    def signal(self, stage: str, *, everywhere: bool) -> None:
        for program in self.alive():
            reached = program.in_group or everywhere or stage == "sweep"
            kills = stage in ("sigkill", "sweep") and program.ends_at_stage != "never"
            if reached and kills:
                program.dies_at = self.now
            elif reached and program.ends_at_stage == stage:
                program.dies_at = self.now + program.delay

    def escalate(self, escalation: Escalation) -> str:
        while True:
            leader_lives = self.programs[0] in self.alive()
            if not leader_lives:
                if not self.alive():
                    return "gone"
                escalation.leader_exited(self.now)
            stage = escalation.next_stage(self.now)
            if stage is not None:
                self.stages.append((self.now, stage))
                if stage == "failed":
                    return "failed"
                self.signal(stage, everywhere=not leader_lives)
            deaths = [p.dies_at for p in self.programs if p.dies_at is not None and p.dies_at > self.now]
            self.now = max(self.now, min([escalation.deadline, *deaths]))


programs = st.builds(
    Program,
    ends_at_stage=st.sampled_from(["interrupt", "sigint", "sigterm", "kill", "never"]),
    delay=st.floats(0, 20),
    in_group=st.booleans(),
)
leaders = st.builds(
    Program,
    ends_at_stage=st.sampled_from(["interrupt", "sigint", "sigterm", "kill", "never"]),
    delay=st.floats(0, 20),
    in_group=st.just(True),
)


@given(leaders, st.lists(programs, max_size=6))
def test_an_escalation_leaves_no_process_or_fails(leader, others):
    """Any escalation ends in bounded time, with `failed` only when a process cannot be killed."""
    world = World([leader, *others])
    end = world.escalate(Escalation(TIMEOUTS, 0.0))
    immortal = [program for program in world.programs if program.ends_at_stage == "never"]
    assert end == ("failed" if any(program in world.alive() for program in immortal) else "gone")
    assert (end == "gone") == (world.alive() == [])
    assert world.now <= 5 + 10 + 1 + 5 + 10  # all stages, and sigterm once more for processes that outlive the leader


@given(leaders, st.lists(programs, max_size=6))
def test_stages_come_in_order_each_once(leader, others):
    """No stage comes twice, or after a harder one."""
    world = World([leader, *others])
    world.escalate(Escalation(TIMEOUTS, 0.0))
    places = [ORDER.index(stage) for _, stage in world.stages]
    assert places == sorted(set(places))


def test_the_default_timeouts():
    """Interrupt, 5 s, SIGINT and at once SIGTERM, 10 s, SIGKILL, then the sweep."""
    escalation, now, seen = Escalation(TIMEOUTS, 100.0), 100.0, []
    while (stage := escalation.next_stage(now)) != "failed":
        if stage is None:
            now = escalation.deadline
        else:
            seen.append((now - 100.0, stage))
    assert seen == [(0, "interrupt"), (5, "sigint"), (5, "sigterm"), (15, "sigkill"), (16, "sweep")]


def test_the_next_stage_waits_for_its_time():
    """Before the deadline there is no stage to act on."""
    escalation = Escalation(TIMEOUTS, 0.0)
    assert escalation.next_stage(0.0) == "interrupt"
    assert escalation.next_stage(4.9) is None
    assert escalation.next_stage(5.0) == "sigint"


def test_processes_that_outlive_the_leader_are_terminated_at_once():
    """After the leader's exit SIGTERM is due at once, and the sweep soon after SIGKILL."""
    escalation = Escalation(TIMEOUTS, 0.0)
    assert escalation.next_stage(0.0) == "interrupt"
    escalation.leader_exited(1.0)
    assert escalation.next_stage(1.0) == "sigterm"
    escalation.leader_exited(1.1)
    assert escalation.next_stage(1.1) is None
    assert escalation.next_stage(11.0) == "sigkill"
    assert not escalation.sweeping
    escalation.leader_exited(11.0)
    assert escalation.deadline < 11.5
    assert escalation.next_stage(11.5) == "sweep"
    assert escalation.sweeping


@given(st.floats(0.1, 60), st.lists(st.floats(0, 30), max_size=8))
def test_a_shortened_escalation_ends_in_time(seconds, pauses):
    """From the moment of the shortening it takes no longer than one with the short timeouts, at any stage."""
    escalation = Escalation(StopTimeouts(), 0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        escalation.next_stage(now)
    shortened_at = now
    escalation.shorten(StopTimeouts.within(seconds), shortened_at)
    while True:
        now = max(now, escalation.deadline)
        if escalation.next_stage(now) == "failed":
            break
    assert now - shortened_at <= seconds + 1e-6
