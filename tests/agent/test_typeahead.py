"""Keys that wait until a program reads them, and their answers."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from onsembl.agent.process import typeahead
from onsembl.agent.process.typeahead import MAX_UNREAD_BYTES, NEARLY_READ_BYTES, Typeahead

PART = b"x" * 16_000


@dataclass
class Terminal:
    """A small pipe in place of a terminal, and the page that types."""

    tty: int
    typeahead: Typeahead
    answers: list[int] = field(default_factory=list)
    typed: int = 0

    def type(self, keys: bytes) -> bool:
        """Type keys, and have their number noted when they are answered."""
        number = self.typed
        self.typed += 1
        taken = self.typeahead.add(keys)
        self.typeahead.when_read(lambda: self.answers.append(number))
        return taken

    def fill(self, size: int) -> None:
        """Type so much that `size` bytes are unread, of which the pipe takes none."""
        assert self.type(b"x" * (size + fcntl.fcntl(self.tty, fcntl.F_GETPIPE_SZ)))

    async def answered(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.answers) < count:
                await asyncio.sleep(0)


@pytest.fixture
async def terminal() -> AsyncGenerator[Terminal]:
    tty, pty = os.pipe2(os.O_NONBLOCK)
    fcntl.fcntl(pty, fcntl.F_SETPIPE_SZ, 4096)
    made = Terminal(tty, Typeahead(pty))
    yield made
    made.typeahead.close()
    os.close(pty)
    os.close(tty)


async def test_few_keys_are_answered_at_once(terminal):
    """A person's keys do not wait for the program."""
    for _ in range(3):
        terminal.type(PART)
    assert terminal.answers == [0, 1, 2]


async def test_the_longest_paste_is_taken_whole_by_a_program_that_reads_slowly(terminal):
    """The next part comes when the one before it is answered."""
    parts, read = 4 * MAX_UNREAD_BYTES // len(PART), 0
    for number in range(parts):
        assert terminal.type(PART)
        while len(terminal.answers) <= number:
            with suppress(BlockingIOError):
                read += len(os.read(terminal.tty, 1000))
            await asyncio.sleep(0)
    assert parts * len(PART) - read <= NEARLY_READ_BYTES + 4096
    assert terminal.answers == list(range(parts))


async def test_a_program_that_does_not_read_is_not_waited_for(terminal, monkeypatch):
    """Keys are answered after a timeout, until it reads again; keys without room are rejected."""
    monkeypatch.setattr(typeahead, "READ_TIMEOUT_SECONDS", 0.05)
    terminal.fill(MAX_UNREAD_BYTES // 2)
    assert terminal.answers == []
    await terminal.answered(1)
    assert terminal.type(PART)
    assert not terminal.type(b"x" * MAX_UNREAD_BYTES)
    assert terminal.answers == [0, 1, 2]
    monkeypatch.setattr(typeahead, "READ_TIMEOUT_SECONDS", 3600)
    os.read(terminal.tty, 4096)
    await asyncio.sleep(0.01)
    assert terminal.type(PART)
    assert terminal.answers == [0, 1, 2]


async def test_a_rejection_comes_after_the_earlier_answers(terminal):
    terminal.fill(MAX_UNREAD_BYTES // 2)
    assert not terminal.type(b"x" * MAX_UNREAD_BYTES)
    assert terminal.answers == [0]
    terminal.typeahead.close()
    assert terminal.answers == [0, 1]


async def test_dropped_keys_are_answered(terminal):
    """An interrupt key drops unread keys."""
    terminal.fill(MAX_UNREAD_BYTES // 2)
    terminal.typeahead.clear()
    assert terminal.answers == [0]


async def test_closing_answers_all_keys(terminal):
    terminal.fill(MAX_UNREAD_BYTES // 2)
    terminal.type(PART)
    terminal.typeahead.close()
    assert terminal.answers == [0, 1]
