"""The ladder, climbed against processes that exist only as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.process.escalation import Ladder
from onsembl.protocol.stop_timeouts import StopTimeouts

ORDER = ["interrupt", "sigint", "sigterm", "sigkill", "sweep", "failed"]
TIMES = StopTimeouts()


@dataclass
class Program:
    """A process that gives way to some rung, `delay` seconds later; "never" is one in uninterruptible sleep."""

    yields_to: str
    delay: float
    in_group: bool
    dies_at: float | None = None


@dataclass
class World:
    """Processes, of which the first is the leader."""

    programs: list[Program]
    now: float = 0.0
    rungs: list[tuple[float, str]] = field(default_factory=list)

    def alive(self) -> list[Program]:
        return [program for program in self.programs if program.dies_at is None or program.dies_at > self.now]

    def signal(self, rung: str, *, everywhere: bool) -> None:
        for program in self.alive():
            reached = program.in_group or everywhere or rung == "sweep"
            kills = rung in ("sigkill", "sweep") and program.yields_to != "never"
            if reached and kills:
                program.dies_at = self.now
            elif reached and program.yields_to == rung:
                program.dies_at = self.now + program.delay

    def climb(self, ladder: Ladder) -> str:
        while True:
            leader_lives = self.programs[0] in self.alive()
            if not leader_lives:
                if not self.alive():
                    return "gone"
                ladder.leader_is_gone(self.now)
            rung = ladder.climb(self.now)
            if rung is not None:
                self.rungs.append((self.now, rung))
                if rung == "failed":
                    return "failed"
                self.signal(rung, everywhere=not leader_lives)
            deaths = [p.dies_at for p in self.programs if p.dies_at is not None and p.dies_at > self.now]
            self.now = max(self.now, min([ladder.deadline, *deaths]))


programs = st.builds(
    Program,
    yields_to=st.sampled_from(["interrupt", "sigint", "sigterm", "kill", "never"]),
    delay=st.floats(0, 20),
    in_group=st.booleans(),
)
leaders = st.builds(
    Program,
    yields_to=st.sampled_from(["interrupt", "sigint", "sigterm", "kill", "never"]),
    delay=st.floats(0, 20),
    in_group=st.just(True),
)


@given(leaders, st.lists(programs, max_size=6))
def test_it_ends_with_nothing_left_or_says_so(leader, others):
    """Whatever the processes do, the ladder ends in bounded time, and `failed` only for what cannot be killed."""
    world = World([leader, *others])
    end = world.climb(Ladder(TIMES, 0.0))
    immortal = [program for program in world.programs if program.yields_to == "never"]
    assert end == ("failed" if any(program in world.alive() for program in immortal) else "gone")
    assert (end == "gone") == (world.alive() == [])
    assert world.now <= 5 + 10 + 1 + 5 + 10  # the rungs, and sigterm once more for what outlived its leader


@given(leaders, st.lists(programs, max_size=6))
def test_rungs_come_in_order_each_once(leader, others):
    """No rung is climbed twice, none after a higher one."""
    world = World([leader, *others])
    world.climb(Ladder(TIMES, 0.0))
    places = [ORDER.index(rung) for _, rung in world.rungs]
    assert places == sorted(set(places))


def test_the_times_are_those_of_the_design():
    """Interrupt, 5 s, SIGINT and at once SIGTERM, 10 s, SIGKILL, then the sweep."""
    ladder, now, seen = Ladder(TIMES, 100.0), 100.0, []
    while (rung := ladder.climb(now)) != "failed":
        if rung is None:
            now = ladder.deadline
        else:
            seen.append((now - 100.0, rung))
    assert seen == [(0, "interrupt"), (5, "sigint"), (5, "sigterm"), (15, "sigkill"), (16, "sweep")]


def test_the_next_rung_waits_for_its_time():
    """Asked too early, there is nothing to do."""
    ladder = Ladder(TIMES, 0.0)
    assert ladder.climb(0.0) == "interrupt"
    assert ladder.climb(4.9) is None
    assert ladder.climb(5.0) == "sigint"


def test_once_the_leader_is_gone_nobody_is_asked_politely():
    """What outlived it is terminated at once, and swept soon after a kill."""
    ladder = Ladder(TIMES, 0.0)
    assert ladder.climb(0.0) == "interrupt"
    ladder.leader_is_gone(1.0)
    assert ladder.climb(1.0) == "sigterm"
    ladder.leader_is_gone(1.1)
    assert ladder.climb(1.1) is None
    assert ladder.climb(11.0) == "sigkill"
    assert not ladder.sweeping
    ladder.leader_is_gone(11.0)
    assert ladder.deadline < 11.5
    assert ladder.climb(11.5) == "sweep"
    assert ladder.sweeping
