"""The agent's terminal: its lines, when programs wait, and printable text."""

from __future__ import annotations

from uuid import uuid4

from onsembl.agent.link.outbox import Outbox
from onsembl.agent.terminal import AgentTerminal


def test_a_line_of_the_agents_own_begins_on_a_new_line(terminal):
    """An unfinished line of a program is ended first; control sequences print nothing and do not count."""
    terminal.write_line("one")
    terminal.write(b"no end")
    terminal.write(b"\x1b[0m")
    terminal.write_line("two")
    terminal.write(b"\x1b[0m")
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
