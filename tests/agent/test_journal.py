"""The journal, read again after it was cut off anywhere."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from onsembl.agent.link.journal import FILE_NAME, REMEMBERED, Journal
from onsembl.protocol.messages import Accepted, Ended

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


def test_what_was_accepted_and_not_ended_is_lost(reopen):
    """The next run finds it and, once it said so, reports it until it is recorded."""
    command, journal = uuid4(), reopen()
    journal.accepted(accepted(command))
    again = reopen()
    assert again.lost == [command]
    assert again.running == {command: accepted(command)}
    again.end_as_lost(command, 90)
    third = reopen()
    assert third.lost == []
    assert (third.ended[command].output_start, third.ended[command].output_end) == (7, 90)
    assert (third.ended[command].outcome, third.ended[command].started_at) == ("lost", NOW)


def test_output_of_a_terminal_that_began_anew_is_not_named(reopen):
    """The command's is gone: what is where it was is another's."""
    command, journal = uuid4(), reopen()
    journal.accepted(accepted(command))
    again = reopen()
    again.end_as_lost(command, 3)
    assert (again.ended[command].output_start, again.ended[command].output_end) == (None, None)


def test_an_end_is_kept_until_it_is_recorded(reopen):
    """Afterwards only the id is known."""
    command, journal = uuid4(), reopen()
    journal.accepted(accepted(command))
    journal.end(ended(command))
    assert reopen().ended == {command: ended(command)}
    journal = reopen()
    journal.recorded(command)
    journal.recorded(command)
    again = reopen()
    assert (again.running, again.ended, again.knows(command)) == ({}, {}, True)
    assert not again.knows(uuid4())


def test_cut_off_at_any_byte_it_tells_some_moment_of_the_past(reopen, tmp_path):
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
        # A line is whole without its line feed, too.
        assert (found.running, found.ended) in (moments[lines], moments.get(size + 1))
        found.accepted(accepted(uuid4()))
        assert len(reopen().lost) == len(found.running)


def test_a_line_that_was_cut_short_does_not_swallow_the_next(reopen, tmp_path):
    """As after a full disk, in the run that met it."""
    command, journal = uuid4(), reopen()
    with (tmp_path / "agent" / FILE_NAME).open("ab") as file:
        file.write(b'{"type":"acc')
    journal._torn = True
    journal.accepted(accepted(command))
    assert reopen().lost == [command]


def test_it_is_on_disk_before_anyone_is_told(reopen, monkeypatch):
    """What is accepted or ended is synced before the call returns."""
    synced: list[int] = []
    journal, command = reopen(), uuid4()
    monkeypatch.setattr(os, "fsync", synced.append)
    journal.accepted(accepted(command))
    assert len(synced) == 1
    journal.end(ended(command))
    assert len(synced) == 2


def test_it_does_not_grow_for_ever(reopen, tmp_path, monkeypatch):
    """It is written anew now and then, and remembers the last ids."""
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


def test_only_its_owner_can_read_it(reopen, tmp_path):
    """The folder and the file are private."""
    reopen()
    assert stat.S_IMODE((tmp_path / "agent").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "agent" / FILE_NAME).stat().st_mode) == 0o600
