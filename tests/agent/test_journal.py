"""The journal, also after a crash that cut it off."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from onsembl.agent.link.journal import FILE_NAME, FORGOTTEN, REMEMBERED, Journal, fates
from onsembl.agent.program import fitting_ends
from onsembl.protocol.messages import MAX_MESSAGE_BYTES, Accepted, CancelStep, Ended, Steered, SteerFate

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def accepted(command_id: UUID) -> Accepted:
    return Accepted(command_id=command_id, started_at=NOW, output_start=7)


def ended(command_id: UUID) -> Ended:
    return Ended(command_id=command_id, outcome="succeeded", ended_at=NOW)


@pytest.fixture
def reopen(tmp_path):
    opened: list[Journal] = []

    def reopen(**options) -> Journal:
        for journal in opened:
            journal.close()
        opened.append(Journal(tmp_path / "agent", **options))
        return opened[-1]

    yield reopen
    opened[-1].close()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_command_without_an_end_is_lost(reopen):
    """The next run finds the command, and reports it lost until that is recorded."""
    command, journal = uuid4(), reopen()
    journal.accepted(accepted(command))
    again = reopen()
    assert again.lost == [command]
    assert again.running == {command: accepted(command)}
    again.end_as_lost(command, 89, 90)
    third = reopen()
    assert third.lost == []
    assert (third.ended[command].output_start, third.ended[command].output_end) == (7, 90)
    assert (third.ended[command].outcome, third.ended[command].started_at) == ("lost", NOW)


def test_a_lost_command_of_an_earlier_stream_has_no_output_range(reopen):
    """Its output is gone: the same offsets belong to another stream now."""
    command, journal = uuid4(), reopen()
    journal.accepted(accepted(command))
    again = reopen()
    again.end_as_lost(command, 3, 90)
    assert (again.ended[command].output_start, again.ended[command].output_end) == (None, None)


def test_a_text_that_was_given_to_a_lost_turn_is_taken_or_unknown(reopen):
    """Each text is on disk before the CLI gets it, and when the CLI has taken it; the end of the command has both."""
    command, given, taken, journal = uuid4(), uuid4(), uuid4(), reopen()
    journal.accepted(accepted(command))
    journal.steer_given(command, given)
    journal.steer_given(command, taken)
    journal.steered(Steered(command_id=command, steer_id=taken, step=4))
    for again in (reopen(), reopen(rewrite_at=1)):
        assert again.steers(command) == {given: None, taken: Steered(command_id=command, steer_id=taken, step=4)}
    again.end_as_lost(command, 89, 90)
    wanted = [SteerFate(steer_id=given, state="unknown"), SteerFate(steer_id=taken, state="taken", step=4)]
    assert reopen().ended[command].steers == wanted
    assert reopen().steers(command) == {}
    assert fates({given: None}, "late") == [SteerFate(steer_id=given, state="late")]


def test_an_end_is_kept_until_it_is_recorded(reopen):
    """Afterwards the command and its end, without the output, are known for a server that was restored since."""
    command, journal = uuid4(), reopen()
    journal.accepted(accepted(command))
    journal.end(ended(command))
    assert reopen().ended == {command: ended(command)}
    journal = reopen()
    journal.recorded(command)
    journal.recorded(command)
    again = reopen()
    assert (again.running, again.ended, again.knows(command)) == ({}, {}, True)
    without_output = msgspec.structs.replace(ended(command), output_start=None, output_end=None)
    assert again.recorded_end(command) == reopen().recorded_end(command) == without_output
    assert not again.knows(unknown := uuid4())
    assert again.recorded_end(unknown) is None


def test_an_end_that_an_earlier_version_dropped_is_lost(reopen, tmp_path):
    """A journal with the id alone still answers at once, and the command does not run again."""
    command = uuid4()
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / FILE_NAME).write_text(f'{{"type":"recorded","command_id":"{command}"}}\n')
    assert reopen().recorded_end(command).outcome == "lost"
    assert reopen().recorded_end(command).error == FORGOTTEN


def test_a_journal_cut_off_at_any_byte_has_an_earlier_state(reopen, tmp_path):
    """A crash in the middle of a line loses that line and nothing before it."""
    first, second, journal = uuid4(), uuid4(), reopen()
    path = tmp_path / "agent" / FILE_NAME
    moments = {path.stat().st_size: ({}, {})}
    for act in (
        lambda: journal.accepted(accepted(first)),
        lambda: journal.end(ended(first)),
        lambda: journal.recorded(first),
        lambda: journal.accepted(accepted(second)),
    ):
        act()
        moments[path.stat().st_size] = (dict(journal.running), dict(journal.ended))
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        found = reopen()
        lines = max(moment for moment in moments if moment <= size)
        # A line is complete even without its line feed.
        assert (found.running, found.ended) in (moments[lines], moments.get(size + 1))
        found.accepted(accepted(uuid4()))
        assert len(reopen().lost) == len(found.running)


def test_a_line_that_was_cut_short_does_not_swallow_the_next(reopen, tmp_path):
    """A full disk has cut the line off, and the same run goes on."""
    command, journal = uuid4(), reopen()
    with (tmp_path / "agent" / FILE_NAME).open("ab") as file:
        file.write(b'{"type":"acc')
    journal._torn = True
    journal.accepted(accepted(command))
    assert reopen().lost == [command]


def test_a_run_that_begins_on_a_full_disk_goes_on_when_there_is_room(reopen, tmp_path):
    """It knows what an earlier run accepted, and accepts nothing. Ends that the disk did not take are written later."""
    lost, recorded, waiting, journal = uuid4(), uuid4(), uuid4(), reopen()
    journal.accepted(accepted(lost))
    journal.accepted(accepted(recorded))
    with full_disk():
        journal = reopen()
        assert journal.lost == [lost, recorded]
        with pytest.raises(OSError, match="File too large"):
            journal.end_as_lost(lost, 89, 90)
        with pytest.raises(OSError, match="File too large"):
            journal.end(ended(recorded))
        journal.recorded(recorded)
        with pytest.raises(OSError, match="File too large"):
            journal.accepted(accepted(waiting))
        assert not journal.has_room()
        assert [path.name for path in (tmp_path / "agent").iterdir()] == [FILE_NAME]
    assert journal.has_room()
    assert [path.name for path in (tmp_path / "agent").iterdir()] == [FILE_NAME]
    again = reopen()
    assert (again.lost, list(again.ended), again.knows(waiting)) == ([], [lost], False)
    assert again.recorded_end(recorded) == ended(recorded)


def test_a_folder_that_cannot_be_written_is_no_full_disk(reopen, tmp_path):
    """Only a person can help."""
    reopen()
    (tmp_path / "agent" / f"{FILE_NAME}.partial").mkdir()
    with pytest.raises(IsADirectoryError):
        Journal(tmp_path / "agent")


def test_an_acceptance_that_is_not_synced_is_unknown_to_the_next_run(reopen, monkeypatch):
    """The command was not run, so its end is not reported as lost."""
    command, journal = uuid4(), reopen()

    def fail(_: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space left"):
            journal.accepted(accepted(command))
    assert not reopen().knows(command)


def test_a_journal_that_cannot_be_written_anew_is_used_as_it_is(reopen, tmp_path):
    """Commands are accepted, and the next run knows them."""
    first, second, journal = uuid4(), uuid4(), reopen(rewrite_at=3)
    partial = tmp_path / "agent" / f"{FILE_NAME}.partial"
    partial.mkdir()
    journal.accepted(accepted(first))
    journal.end(ended(first))
    journal.recorded(first)
    journal.accepted(accepted(second))
    partial.rmdir()
    again = reopen()
    assert (again.lost, again.knows(first)) == ([second], True)


def test_reports_are_on_disk_before_they_are_sent(reopen, monkeypatch):
    """Acceptances and ends are synced before the call returns."""
    synced: list[int] = []
    journal, command = reopen(), uuid4()
    monkeypatch.setattr(os, "fsync", synced.append)
    journal.accepted(accepted(command))
    assert len(synced) == 1
    journal.end(ended(command))
    assert len(synced) == 2


def test_the_journal_is_bounded(reopen, tmp_path, monkeypatch):
    """It is written anew now and then, and knows the last ids."""
    monkeypatch.setattr("onsembl.agent.link.journal.REMEMBERED", 50)
    journal = reopen(rewrite_at=200)
    ids = [uuid4() for _ in range(500)]
    for command in ids:
        journal.accepted(accepted(command))
        journal.end(ended(command))
        journal.recorded(command)
    assert len((tmp_path / "agent" / FILE_NAME).read_bytes().splitlines()) < 200
    again = reopen()
    assert [again.knows(command) for command in ids] == [False] * 450 + [True] * 50
    assert REMEMBERED == 10_000


def test_only_the_owner_can_read_the_journal(reopen, tmp_path):
    """The folder and the file are private."""
    reopen()
    assert stat.S_IMODE((tmp_path / "agent").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "agent" / FILE_NAME).stat().st_mode) == 0o600


def test_a_hello_has_only_as_many_ends_as_fit_into_a_frame():
    """Ends with the longest texts and every step are sent over several hellos, the first of them first."""
    step = CancelStep(command_id=uuid4(), step="failed", at=datetime.now(UTC), processes_left=64, pids=[2**31 - 1] * 64)
    longest = [
        Ended(command_id=uuid4(), outcome="failed", ended_at=datetime.now(UTC), error="語" * 256, steps=[step] * 8)
        for _ in range(256)
    ]
    fitting = fitting_ends(longest)
    assert 0 < len(fitting) < 256
    assert fitting == longest[: len(fitting)]
    assert len(msgspec.json.encode(fitting)) < MAX_MESSAGE_BYTES - 64 * 1024
    short = [Ended(command_id=uuid4(), outcome="succeeded", ended_at=datetime.now(UTC)) for _ in range(300)]
    assert fitting_ends(short) == short[:256]
