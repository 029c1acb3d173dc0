"""A command is overdue after its limit and a grace time by the observer's own clock, and only then."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.ids import CommandId
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.overdue import LimitedCommand, LimitObserver

ID = CommandId(UUID(int=1))
GRACE, GAP = 30.0, 15.0
LIMITS = CommandLimits(work_seconds=100, idle_seconds=40)
QUIET = LimitedCommand(LIMITS, connection="1", heartbeat="0", output_end=7, over=None)


class Looks:
    """Looks every 5 s, at a command that runs and an instance that writes its heartbeats."""

    def __init__(self) -> None:
        self.observer = LimitObserver(GRACE, GAP)
        self.now = 0.0
        self.command: LimitedCommand | None = QUIET
        self.beats = True

    def until_overdue(self, end: float) -> tuple[float, str] | None:
        """When the command is overdue, and past which limit."""
        while self.now < end:
            self.now += 5.0
            if self.command is not None and self.beats:
                self.command = replace(self.command, heartbeat=str(self.now))
            found = self.observer.look(self.now, self.now, {ID: self.command} if self.command is not None else {})
            if found:
                return self.now, found[ID]
        return None


@pytest.fixture
def looks() -> Looks:
    return Looks()


def test_silence_counts_from_the_last_output(looks):
    """The time without output is over after the limit and the grace time."""
    looks.command = replace(QUIET, limits=CommandLimits(idle_seconds=40))
    assert looks.until_overdue(60.0) is None
    looks.command = replace(looks.command, output_end=8)
    assert looks.until_overdue(1000.0) == (65.0 + 40.0 + GRACE, "idle_seconds")


def test_output_does_not_prolong_the_running_time(looks):
    """Nor does a new connection, but for the grace time, in which a report may still come."""
    looks.command = replace(QUIET, limits=CommandLimits(work_seconds=100))
    assert looks.until_overdue(120.0) is None
    looks.command = replace(looks.command, output_end=8, connection="2")
    assert looks.until_overdue(1000.0) == (125.0 + GRACE, "work_seconds")


def test_what_a_command_used_counts_from_the_report(looks):
    """The limit is named by the row."""
    assert looks.until_overdue(20.0) is None
    looks.command = replace(looks.command, over="tokens")
    assert looks.until_overdue(1000.0) == (25.0 + GRACE, "tokens")


def test_a_command_that_waits_does_not_work(looks):
    """It is not overdue while it waits; what its agent says that it waited, also between looks, does not count."""
    looks.command = replace(QUIET, limits=CommandLimits(work_seconds=100, idle_seconds=90))
    assert looks.until_overdue(20.0) is None
    looks.command = replace(looks.command, stands_still=True)
    assert looks.until_overdue(1000.0) is None
    looks.command = replace(looks.command, stands_still=False, stood_still=983.0)
    assert looks.until_overdue(1050.0) is None
    looks.command = replace(looks.command, stood_still=990.0, output_end=8)
    assert looks.until_overdue(2000.0) == (5.0 + 990.0 + 100.0 + GRACE, "work_seconds")


def test_a_command_that_waits_is_not_stopped_for_its_work_before(looks):
    """It has passed its limit without a connection. When it goes on, it is overdue at once."""
    looks.command = replace(QUIET, limits=CommandLimits(work_seconds=100), connection=None)
    assert looks.until_overdue(200.0) is None
    looks.command = replace(looks.command, connection="2", stands_still=True)
    assert looks.until_overdue(1000.0) is None
    looks.command = replace(looks.command, stands_still=False)
    assert looks.until_overdue(2000.0) == (1005.0, "work_seconds")


def test_a_request_that_nobody_answers(looks):
    """The oldest open request counts; with an answer it is another one, or none."""
    limits = CommandLimits(work_seconds=100, waiting_seconds=300)
    looks.command = replace(QUIET, limits=limits, stands_still=True, oldest_request="one")
    assert looks.until_overdue(200.0) is None
    looks.command = replace(looks.command, oldest_request="two")
    assert looks.until_overdue(2000.0) == (205.0 + 300.0 + GRACE, "waiting_seconds")


@pytest.mark.parametrize("what", ["offline", "no heartbeats"])
def test_an_agent_that_cannot_report_is_not_overdue(looks, what):
    """Its report may be missing until it has been connected for the grace time."""
    looks.command = replace(QUIET, connection=None) if what == "offline" else QUIET
    looks.beats = what == "offline"
    assert looks.until_overdue(1000.0) is None
    looks.command, looks.beats = QUIET, True
    assert looks.until_overdue(2000.0) == (1005.0 + GRACE, "work_seconds")


def test_a_late_look_starts_the_grace_time_anew(looks):
    """The observer was stopped, or the database was: the end of the command may be on its way."""
    looks.command = replace(QUIET, limits=CommandLimits(work_seconds=100))
    assert looks.until_overdue(20.0) is None
    looks.now = 4000.0
    assert looks.until_overdue(5000.0) == (4005.0 + GRACE, "work_seconds")


acts = st.lists(
    st.tuples(
        st.floats(0.1, 200),
        st.floats(0, 20),
        st.sampled_from(["", "beat", "output", "reconnect", "leave", "wait", "short wait", "answer"]),
    )
)


@given(acts=acts)
def test_no_command_is_stopped_early(acts):
    """Whatever pauses the observer makes, an overdue command has worked for its limit and the grace time, and its agent
    has been connected for the grace time. One that only waits is not overdue for its work."""
    observer, command = LimitObserver(GRACE, GAP), QUIET
    now = connected = output = waited = 0.0
    waits_since: float | None = None
    for number, (pause, took, act) in enumerate(acts):
        now += pause
        match act:
            case "beat":
                command = replace(command, heartbeat=f"beat {number}")
            case "output":
                command, output = replace(command, output_end=number + 10), now
            case "reconnect":
                command, connected = replace(command, connection=number), now
            case "leave":
                command = replace(command, connection=None)
            case "wait" if waits_since is None:
                command, waits_since = replace(command, stands_still=True), now
            case "answer" if waits_since is not None:
                waited, waits_since, output = waited + now - waits_since, None, now
                command = replace(command, stands_still=False, stood_still=waited)
            case "short wait" if waits_since is None:  # that no look has seen
                waited, output = waited + pause / 2, now
                command = replace(command, stood_still=waited)
            case _:
                pass
        overdue = observer.look(now, now + took, {ID: command}).get(ID)
        if overdue is not None:
            assert command.connection is not None and now - connected >= GRACE
            assert waits_since is None
            since, limit = (output, 40.0) if overdue == "idle_seconds" else (waited, 100.0)
            assert now - since >= limit + GRACE
        now += took
