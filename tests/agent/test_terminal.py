"""The agent's terminal: its lines, when programs wait, and printable text."""

from __future__ import annotations

from uuid import uuid4

import pytest

from onsembl.agent.link.outbox import Outbox
from onsembl.agent.terminal import AgentTerminal, printable


def test_a_line_of_the_agents_own_begins_on_a_new_line(terminal):
    """An unfinished line of a program is ended first; control sequences print nothing and do not count."""
    terminal.write_line("one")
    terminal.write(b"no end")
    terminal.control(b"\x1b[0m")
    terminal.write_line("two")
    terminal.control(b"\x1b[0m")
    terminal.write_line("three")
    assert terminal.outbox.next_frame(1000) == (0, b"one\r\nno end\x1b[0m\r\ntwo\r\n\x1b[0mthree\r\n")


def test_programs_go_on_when_there_is_room(tmp_path):
    """Each waiting program is called once."""
    outbox = Outbox(tmp_path, uuid4(), capacity=10)
    terminal, calls = AgentTerminal(80, 24, outbox), []
    terminal.write(b"0123456789")
    assert terminal.outbox.full
    terminal.when_room(lambda: calls.append(1))
    terminal.outbox.next_frame(100)
    terminal.acknowledged(0)
    assert calls == []
    terminal.acknowledged(1)
    terminal.acknowledged(5)
    assert calls == [1]
    outbox.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("äöü 漢字 🙂", "äöü 漢字 🙂"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b\x1b]52;c;aGk=\x1b\\c", "abc"),
        ("\x1bPq1;2\x1b\\d\x1bc", "d"),
        ("\x9b31mC1\x07\x08\x7f", "31mC1"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("cut \x1b[3", "cut 3"),
        ("nul\x00", "nul"),
    ],
)
def test_printable_text_moves_no_cursor_and_sets_nothing(text, shown):
    """Of all control characters, only line feeds and tabs are left."""
    assert printable(text) == shown
