"""The output and the steps of a command are read back, whenever the agent's stream begins anew."""

from __future__ import annotations

import copy
import struct
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from agent.test_spool import Machine, Stream
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from onsembl.agent.link import journal
from onsembl.agent.link.journal import Journal
from onsembl.agent.link.outbox import Outbox
from onsembl.agent.link.step_log import StepLog
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.ids import StreamId
from onsembl.protocol.messages import Accepted, Ended, StreamTail
from onsembl.protocol.output_place import OutputPlace
from onsembl.protocol.stream_chain import Link, StreamChain
from onsembl.protocol.turn_steps import Step

NOW = datetime.now(UTC)


@dataclass
class Row:
    """A command at the simulated server."""

    stream_id: UUID
    start: int
    end: int | None = None
    steps: dict[int, int] = field(default_factory=dict[int, int])
    """The offset of each step, by its number."""


@dataclass
class Written:
    """A command at the agent: the numbers that it wrote, and the one at which each step is, if it was written."""

    first: int
    after: int | None = None
    steps: dict[int, int] = field(default_factory=dict[int, int])


class CommandsMachine(Machine):
    """The machine of the output, and commands: a real terminal, journal and step log at the agent; at the server the
    rules for places, and backups that are restored."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.files = tempfile.TemporaryDirectory(prefix="onsembl-commands-")
        self.journal, self.step_log = self._journal(), StepLog(Path(self.files.name))
        self.terminal = AgentTerminal(80, 24, self.outbox)
        self.rows: dict[UUID, Row] = {}
        self.commands: dict[UUID, Written] = {}
        self.running: Accepted | None = None
        self.without_output: set[UUID] = set()
        """Commands whose end has named no output."""
        self.was_full = False
        self.forgotten: set[int] = set()
        """Numbers that the agent has lost; the server may have them."""
        self.backup: tuple[dict[UUID, Stream], UUID | None, dict[UUID, Row]] | None = None

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "files"):
                self.step_log.close()
                self.journal.close()
                self.files.cleanup()

    def _journal(self) -> Journal:
        return Journal(Path(self.files.name))

    # The agent

    @precondition(lambda self: not self.disk_full and self.running is None)
    @rule(heard=st.booleans())
    def start_command(self, heard: bool) -> None:
        if not self.connected:
            self.connect(True)
        self.terminal.number_anew()
        report = Accepted(
            command_id=uuid4(), started_at=NOW, stream_id=self.terminal.stream_id, output_start=self.terminal.end
        )
        self.journal.accepted(report, self.outbox.base)
        self.running = report
        self.commands[report.command_id] = Written(self.written)
        if heard:
            self._write_accepted(report, None)

    @precondition(lambda self: self.running is not None)
    @rule()
    def take_step(self) -> None:
        """A step that the next number shows."""
        assert self.running is not None
        command = self.commands[self.running.command_id]
        number = len(command.steps) + 1
        command.steps[number] = self.written
        at = self.terminal.end
        step = Step(
            number=number,
            revision=1,
            kind="notice",
            status="completed",
            started_at=NOW,
            ended_at=NOW,
            output_start=at,
            output_end=at,
        )
        self.step_log.add(self.running.command_id, [step], self.terminal.stream_id)

    @precondition(lambda self: self.running is not None)
    @rule(heard=st.booleans())
    def end_command(self, heard: bool) -> None:
        assert self.running is not None
        report = Ended(
            command_id=self.running.command_id,
            outcome="succeeded",
            ended_at=NOW,
            stream_id=self.running.stream_id,
            output_start=self.running.output_start,
            output_end=self.terminal.end,
        )
        self.commands[report.command_id].after = self.written
        self.journal.end(report)
        self.running = None
        if heard and self.connected:
            self._write_end(report, None)
            self.journal.recorded(report.command_id)

    @precondition(lambda self: self.connected)
    @rule()
    def send_steps(self) -> None:
        while (batch := self.step_log.next_batch()) is not None:
            row = self.rows.get(batch.command_id)
            if row is not None:
                place = self._place(batch.stream_id, None)
                row.steps |= {step.number: step.output_start for step in place.of_steps(batch.steps)}
            self.step_log.recorded(batch.command_id, batch.through)

    @rule(full=st.booleans())
    def fill_or_empty_the_disk(self, full: bool) -> None:
        super().fill_or_empty_the_disk(full)
        self.was_full |= full

    @rule()
    def kill_the_agent(self) -> None:
        before = set(self.lost)
        super().kill_the_agent()
        self.forgotten |= self.lost - before
        self.journal.close()
        self.step_log.close()
        self.journal, self.step_log = self._journal(), StepLog(Path(self.files.name))
        self.terminal = AgentTerminal(80, 24, self.outbox)
        self.running = None
        for command in self.commands.values():  # no byte follows that a step before it shows
            command.steps = {number: shown for number, shown in command.steps.items() if shown < self.written}
        for command_id in self.journal.lost:
            base = self.journal.base(command_id)
            found_end = self.outbox.counted_end(base)
            self.write(1)  # the line that says so
            self.commands[command_id].after = self.written
            self.journal.end_as_lost(command_id, found_end, self.outbox.counted_end(base))

    # The server

    def reported(self, tail: StreamTail | None, welcomed: bool) -> None:
        self.step_log.resend()
        for ended in list(self.journal.ended.values()):
            self._write_end(ended, tail)
            if welcomed:
                self.journal.recorded(ended.command_id)
        for accepted in self.journal.running.values():
            self._write_accepted(accepted, tail)

    def _write_accepted(self, report: Accepted, tail: StreamTail | None) -> None:
        if report.command_id not in self.rows:
            place = self._place(report.stream_id, tail)
            self.rows[report.command_id] = Row(place.stream_id, place.counted(report.output_start))

    def _write_end(self, report: Ended, tail: StreamTail | None) -> None:
        place = self._place(report.stream_id, tail)
        report = place.of_end(report)
        if report.output_start is None or report.output_end is None:
            self.rows.pop(report.command_id, None)
            self.without_output.add(report.command_id)
            return
        row = self.rows.setdefault(report.command_id, Row(place.stream_id, report.output_start))
        if row.end is None:
            row.end = report.output_end

    def _place(self, named: UUID | None, tail: StreamTail | None) -> OutputPlace:
        assert self.newest is not None
        if named is None and tail is not None:
            named = tail.id
        if named == self.newest:
            return OutputPlace(StreamId(self.newest))
        chain = self._chain(named) if named is not None else None
        if chain is None:
            return OutputPlace(StreamId(self.newest), known=False)
        return OutputPlace(chain.links[0].stream_id, chain)

    def _chain(self, named: UUID) -> StreamChain | None:
        """The model of `stream_chains.get`."""
        at = {named: 0}
        for before in (order := [named]):
            found = [id for id, stream in self.streams.items() if stream.continues == before and id not in at]
            at |= {id: at[before] + self.streams[id].continues_at for id in found}
            order += sorted(found, key=at.__getitem__)
        links = [Link(StreamId(id), at[id], len(self.streams[id].archived)) for id in order if id in self.streams]
        return StreamChain(links) if links else None

    @rule(backed_up=st.booleans())
    def take_all(self, backed_up: bool) -> None:
        """All output is sent, archived and acknowledged; then a backup may be made."""
        if not self.connected:
            self.connect(True)
        self.send(1000)
        self.archive(1000)
        self.acknowledge()
        if backed_up and self.outbox.start == self.outbox.end:
            self.backup = copy.deepcopy((self.streams, self.newest, self.rows))

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore(self) -> None:
        """The archive is older than what the agent was told; what it has dropped since is gone."""
        if not self.outbox.full:
            self.write(3)
        self.take_all(False)
        before = set(self._archived())
        assert self.backup is not None
        self.streams, self.newest, self.rows = copy.deepcopy(self.backup)
        self.kill_the_server()
        self.lost |= before - set(self._archived()) - self._numbers(self.outbox)

    def check(self) -> None:
        self.send_steps()
        for command_id in self.without_output:
            after = self.commands[command_id].after
            assert after is not None
            assert self.was_full or any(number < after for number in self.forgotten), "a command has no output"
        archived = set(self._archived())
        for command_id, row in self.rows.items():
            command = self.commands[command_id]
            if row.end is None or command.after is None:
                continue
            numbers = range(command.first, command.after)
            read = self._read(row.stream_id, row.start, row.end)
            wanted = [number for number in numbers if number in archived]
            if self.forgotten.isdisjoint(numbers):
                assert read == wanted, "the output is not that of the command"
            else:  # the agent may not know any more where the lost bytes were
                assert set(wanted) <= set(read), "output of the command is missing"
            for number, offset in row.steps.items():
                if (shown := command.steps.get(number)) in archived:
                    assert self._read(row.stream_id, offset, offset + 4) == [shown], "the step is elsewhere"

    def _read(self, stream_id: UUID, start: int, end: int) -> list[int]:
        chain = self._chain(stream_id)
        assert chain is not None
        data = b"".join(
            bytes(self.streams[span.stream_id].archived[span.start : span.end]) for span in chain.spans(start, end)
        )
        return [number for (number,) in struct.iter_unpack(">I", data)]


@pytest.mark.parametrize("examples", [40, pytest.param(500, marks=pytest.mark.soak)])
def test_a_command_has_its_output_and_its_steps(examples: int):
    """Each byte of a command's output that is archived at all is read back in its place, and each step points at the
    byte that shows it, whatever is killed, restored or full."""
    run_state_machine_as_test(CommandsMachine, settings=settings(max_examples=examples, stateful_step_count=40))


@pytest.mark.parametrize("killed", [False, True], ids=["runs on", "is killed"])
@pytest.mark.parametrize("heard", [True, False], ids=["heard", "not heard"])
@pytest.mark.parametrize("full", [False, True], ids=["room", "full disk"])
def test_a_command_spans_two_streams(killed: bool, heard: bool, full: bool):
    """A stream begins anew in the middle of a command: once after bytes that the archive has lost, once at its end."""
    machine = CommandsMachine()
    machine.begin()
    try:
        machine.write(5)
        machine.take_all(True)
        machine.start_command(heard)
        machine.take_step()
        machine.write(4)
        machine.take_step()
        machine.write(1)
        machine.take_all(heard)
        machine.write(2)
        machine.fill_or_empty_the_disk(full)
        machine.restore()
        machine.connect(True)
        machine.take_step()
        machine.write(6)
        machine.fill_or_empty_the_disk(False)
        machine.take_all(False)
        machine.take_step()
        machine.write(3)
        if killed:
            machine.kill_the_agent()
            machine.connect(True)
        else:
            machine.end_command(heard)
        machine.write(4)
    finally:
        machine.teardown()
    assert len(machine.streams) > 1


Steps = list[tuple[Any, ...]]
AN_UNKNOWN_STREAM_BETWEEN: Steps = [
    *(("begin",), ("take_all", True), ("start_command", False), ("restore",), ("restore",), ("kill_the_agent",)),
]
"""The server is restored twice from a backup that has only the stream at the command's start."""
A_NAME_THAT_THE_DISK_DID_NOT_TAKE: Steps = [
    *(("begin",), ("fill_or_empty_the_disk", True), ("take_all", False), ("fill_or_empty_the_disk", False)),
    *(("start_command", False), ("kill_the_agent",)),
]
OUTPUT_THAT_ONLY_THE_ARCHIVE_HAS: Steps = [
    *(("begin",), ("start_command", False), ("fill_or_empty_the_disk", True), ("write", 5)),
    *(("send", 1000), ("archive", 1000)),
]
A_LOST_COMMAND: Steps = [*OUTPUT_THAT_ONLY_THE_ARCHIVE_HAS, ("kill_the_agent",)]
AN_ENDED_COMMAND: Steps = [
    *OUTPUT_THAT_ONLY_THE_ARCHIVE_HAS,
    *(("end_command", False), ("acknowledge",), ("kill_the_agent",), ("write", 9)),
]
A_START_THAT_THE_ARCHIVE_HAS_LOST: Steps = [
    *(("begin",), ("write", 5), ("take_all", True), ("write", 3), ("take_all", False)),
    *(("start_command", False), ("write", 2), ("restore",), ("connect", True), ("write", 2), ("kill_the_agent",)),
    ("write", 9),
]


def _all_in_last(place: OutputPlace, report: Ended) -> Ended:
    assert report.output_start is not None and report.output_end is not None
    if place.chain is None:
        return report
    start, end = place.counted(report.output_start), place.chain.counted(report.output_end, in_last=True)
    return msgspec.structs.replace(report, output_start=start, output_end=end)


def _none_in_last(place: OutputPlace, report: Ended) -> Ended:
    assert report.output_start is not None and report.output_end is not None
    start, end = place.counted(report.output_start), place.counted(report.output_end)
    return msgspec.structs.replace(report, output_start=start, output_end=end)


@pytest.mark.parametrize(
    ("steps", "owner", "name", "broken"),
    [
        (AN_UNKNOWN_STREAM_BETWEEN, CommandsMachine, "_add_unknown", lambda *_: None),
        (AN_UNKNOWN_STREAM_BETWEEN, Outbox, "earlier", []),
        (A_NAME_THAT_THE_DISK_DID_NOT_TAKE, CommandsMachine, "_former_output", lambda *_: (0, None)),
        (A_LOST_COMMAND, OutputPlace, "of_end", _none_in_last),
        (AN_ENDED_COMMAND, OutputPlace, "of_end", _all_in_last),
        (A_START_THAT_THE_ARCHIVE_HAS_LOST, StreamChain, "counted", lambda _, offset, **__: offset),
        (A_START_THAT_THE_ARCHIVE_HAS_LOST, journal, "_report", lambda begun: Accepted(**_without_stream(begun))),
    ],
    ids=["unknown", "earlier", "newest", "lost", "ended", "gap", "named"],
)
def test_a_missing_guard_is_seen(monkeypatch, steps: Steps, owner: Any, name: str, broken: Any) -> None:
    """The steps pass with the rules, and fail without one of them."""
    _take(steps)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        _take(steps)


def _without_stream(begun: journal.Begun) -> dict[str, Any]:
    return {"command_id": begun.command_id, "started_at": begun.started_at, "output_start": begun.output_start}


def _take(steps: Steps) -> None:
    machine = CommandsMachine()
    for name, *values in steps:
        getattr(machine, name)(*values)
    machine.teardown()
