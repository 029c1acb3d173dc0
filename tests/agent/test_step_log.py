"""Steps on their way to the server: kept until it has them, over reconnects, restarts and full disks."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.missing_guards import assert_fails

from onsembl.agent.link.step_log import BATCH_BYTES, StepLog
from onsembl.protocol.turn_steps import MAX_STEP_TEXT, Step, Steps
from onsembl.sql.steps import newest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMMANDS = [UUID(int=number) for number in range(1, 4)]


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[Callable[[], StepLog]]:
    """Opens the log of one agent."""
    opened: list[StepLog] = []

    def open_again() -> StepLog:
        opened.append(StepLog(tmp_path))
        return opened[-1]

    yield open_again
    for log in opened:
        log.close()


def step(number: int, text: str = "", result: str = "") -> Step:
    return Step(
        number=number,
        revision=1,
        kind="message",
        status="completed",
        started_at=NOW,
        output_start=0,
        output_end=0,
        text=text,
        result=result,
    )


def numbers(batch: Steps | None) -> list[int]:
    return [] if batch is None else [step.number for step in batch.steps]


def test_one_batch_at_a_time_is_on_its_way(tmp_path, open_log):
    """The next batch follows when the server has the last one; the file goes when the command is over."""
    log, command = open_log(), uuid4()
    log.add(command, [step(1), step(2)])
    batch = log.next_batch()
    assert numbers(batch) == [1, 2]
    log.add(command, [step(3)])
    assert log.next_batch() is None
    log.recorded(command, batch.through)
    log.recorded(command, batch.through)
    log.ended(command)
    assert not log.empty
    batch = log.next_batch()
    assert numbers(batch) == [3]
    log.recorded(command, batch.through)
    assert log.empty
    assert list((tmp_path / "steps").iterdir()) == []


def test_a_batch_is_bounded(tmp_path, open_log):
    """A batch has a number of bytes at most, but at least one step."""
    log, command = open_log(), uuid4()
    log.add(command, [step(number, "x" * (BATCH_BYTES // 3)) for number in range(1, 5)])
    log.add(command, [step(5, "x" * MAX_STEP_TEXT, "x" * MAX_STEP_TEXT), step(6)])
    got = []
    while (batch := log.next_batch()) is not None:
        got.append(numbers(batch))
        log.recorded(command, batch.through)
    assert got == [[1, 2], [3, 4], [5], [6]]


def test_a_line_that_a_crash_has_cut_off_spoils_no_other(tmp_path, open_log):
    """The rest of the file is sent."""
    log, command = open_log(), uuid4()
    log.add(command, [step(1)])
    log.close()
    path = tmp_path / "steps" / f"{command}.jsonl"
    path.write_bytes(path.read_bytes() + b'{"number": 2, "revi\n' + msgspec.json.encode(step(3)) + b'\n{"num')
    (tmp_path / "steps" / "of-another-program.jsonl").write_bytes(b"x")
    assert numbers(open_log().next_batch()) == [1, 3]


def test_a_file_that_another_program_shortened_loses_its_own_steps_only(tmp_path, open_log):
    """Steps of other commands are sent, and the agent does not hang."""
    log, one, other = open_log(), uuid4(), uuid4()
    log.add(one, [step(1), step(2)])
    log.add(other, [step(3)])
    (tmp_path / "steps" / f"{one}.jsonl").write_bytes(msgspec.json.encode(step(1)) + b"\n")
    got = []
    while (batch := log.next_batch()) is not None:
        got.append(numbers(batch))
        log.recorded(batch.command_id, batch.through)
    assert got == [[1], [3]]
    assert log.empty


def test_steps_that_were_open_when_the_agent_was_killed_end(tmp_path, open_log):
    """They have failed, once, also those that the server has and those before a torn line; the others are as before."""
    log, command = open_log(), uuid4()
    running = [msgspec.structs.replace(step(number), status="in_progress") for number in (1, 2, 3)]
    log.add(command, [*running, msgspec.structs.replace(step(2), revision=2)])
    log.recorded(command, log.next_batch().through)
    log.close()
    path = tmp_path / "steps" / f"{command}.jsonl"
    path.write_bytes(path.read_bytes() + b'{"number": 4, "revi')
    for _ in range(2):
        log = open_log()
        batch = log.next_batch()
        assert [(step.number, step.revision, step.status) for step in newest(batch.steps)] == [
            (1, 2, "failed"),
            (2, 2, "completed"),
            (3, 2, "failed"),
        ]
        assert numbers(batch) == [1, 2, 3, 2, 1, 3]
        assert batch.steps[-1].ended_at is not None


def test_a_full_disk_loses_steps_and_nothing_else(tmp_path, open_log):
    """What is written before and after it arrives whole."""
    log, command = open_log(), uuid4()
    log.add(command, [step(1)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        log.add(command, [step(2, "x" * 5000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.add(command, [step(3)])
    assert numbers(log.next_batch()) == [1, 3]


class StepLogMachine(RuleBasedStateMachine):
    """Commands add steps; the connection breaks and the agent restarts at any moment."""

    @initialize()
    def begin(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = StepLog(Path(self._folder.name))
        self._added: dict[UUID, int] = dict.fromkeys(COMMANDS, 0)
        self._ended: set[UUID] = set()
        self._received: dict[UUID, list[int]] = {command: [] for command in COMMANDS}
        self._batch: Steps | None = None

    @rule(command=st.sampled_from(COMMANDS), count=st.integers(1, 3))
    def add(self, command: UUID, count: int) -> None:
        if command not in self._ended:
            first = self._added[command] + 1
            self._log.add(command, [step(number) for number in range(first, first + count)])
            self._added[command] += count

    @rule(command=st.sampled_from(COMMANDS))
    def end(self, command: UUID) -> None:
        self._log.ended(command)
        self._ended.add(command)

    @rule()
    def send(self) -> None:
        batch = self._log.next_batch()
        assert self._batch is None or batch is None
        if batch is not None:
            self._batch = batch
            self._received[batch.command_id] += numbers(batch)

    @rule()
    def record(self) -> None:
        if self._batch is not None:
            self._log.recorded(self._batch.command_id, self._batch.through)
            self._batch = None

    @rule()
    def reconnect(self) -> None:
        self._log.resend()
        self._batch = None

    @rule()
    def restart(self) -> None:
        self._log.close()
        self._log = StepLog(Path(self._folder.name))
        self._ended = set(COMMANDS)  # a restarted agent does not go on with a command
        self._batch = None

    @invariant()
    def the_order_is_kept(self) -> None:
        for command, received in self._received.items():
            assert set(received) == set(range(1, max(received, default=0) + 1)), command

    def teardown(self) -> None:
        try:
            self._all_arrive()
        finally:
            self._log.close()
            self._folder.cleanup()

    def _all_arrive(self) -> None:
        for command in COMMANDS:
            self._log.ended(command)
        self._log.resend()
        while (batch := self._log.next_batch()) is not None:
            self._received[batch.command_id] += numbers(batch)
            self._log.recorded(batch.command_id, batch.through)
        for command, count in self._added.items():
            assert set(self._received[command]) == set(range(1, count + 1))
        assert self._log.empty
        assert list((Path(self._folder.name) / "steps").iterdir()) == []


TestStepLogMachine = StepLogMachine.TestCase
TestStepLogMachine.settings = settings(max_examples=60, stateful_step_count=30)


def _forget(log: StepLog, command: UUID) -> None:
    file = log._files.pop(command, None)
    if file is not None and file.file is not None:
        file.file.close()


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("resend", lambda _: None),  # a batch that was on its way at a break is not sent again
        ("ended", _forget),  # with the command, its steps are forgotten
    ],
)
def test_a_missing_guard_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Callable[[StepLog], object]
) -> None:
    """The machine fails without any of these guards."""
    monkeypatch.setattr(StepLog, name, broken)
    assert_fails(StepLogMachine)
