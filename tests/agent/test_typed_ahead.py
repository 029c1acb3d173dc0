"""Keys that wait for a program to read them, and the answers that wait with them."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from onsembl.agent.process import typed_ahead
from onsembl.agent.process.typed_ahead import MOST_BYTES, NEARLY_READ_BYTES, TypedAhead

PART = b"x" * 16_000


@dataclass
class Terminal:
    """A pipe that holds little in place of a terminal, and who types there."""

    inside: int
    typed: TypedAhead
    answers: list[int] = field(default_factory=list)
    asked: int = 0

    def type(self, keys: bytes) -> bool:
        """Type, and ask for the answer, which is the number of these keys."""
        number = self.asked
        self.asked += 1
        taken = self.typed.add(keys)
        self.typed.once_read(lambda: self.answers.append(number))
        return taken

    def fill(self, size: int) -> None:
        """Type so much that `size` bytes are unread, of which the pipe takes none."""
        assert self.type(b"x" * (size + fcntl.fcntl(self.inside, fcntl.F_GETPIPE_SZ)))

    async def answered(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.answers) < count:
                await asyncio.sleep(0)


@pytest.fixture
async def terminal() -> AsyncGenerator[Terminal]:
    inside, control = os.pipe2(os.O_NONBLOCK)
    fcntl.fcntl(control, fcntl.F_SETPIPE_SZ, 4096)
    made = Terminal(inside, TypedAhead(control))
    yield made
    made.typed.close()
    os.close(control)
    os.close(inside)


async def test_little_is_answered_at_once(terminal):
    """A person's keys do not wait for the program."""
    for _ in range(3):
        terminal.type(PART)
    assert terminal.answers == [0, 1, 2]


async def test_the_longest_paste_is_taken_whole_by_a_program_that_reads_slowly(terminal):
    """The next part comes when the one before it is answered."""
    parts, read = 4 * MOST_BYTES // len(PART), 0
    for number in range(parts):
        assert terminal.type(PART)
        while len(terminal.answers) <= number:
            with suppress(BlockingIOError):
                read += len(os.read(terminal.inside, 1000))
            await asyncio.sleep(0)
    assert parts * len(PART) - read <= NEARLY_READ_BYTES + 4096
    assert terminal.answers == list(range(parts))


async def test_a_program_that_does_not_read_is_not_waited_for(terminal, monkeypatch):
    """Once its time is over, and until it reads again; what is too much is refused."""
    monkeypatch.setattr(typed_ahead, "PATIENCE_SECONDS", 0.05)
    terminal.fill(MOST_BYTES // 2)
    assert terminal.answers == []
    await terminal.answered(1)
    assert terminal.type(PART)
    assert not terminal.type(b"x" * MOST_BYTES)
    assert terminal.answers == [0, 1, 2]
    monkeypatch.setattr(typed_ahead, "PATIENCE_SECONDS", 3600)
    os.read(terminal.inside, 4096)
    await asyncio.sleep(0.01)
    assert terminal.type(PART)
    assert terminal.answers == [0, 1, 2]


async def test_a_refusal_comes_after_the_answers_before_it(terminal):
    terminal.fill(MOST_BYTES // 2)
    assert not terminal.type(b"x" * MOST_BYTES)
    assert terminal.answers == [0]
    terminal.typed.close()
    assert terminal.answers == [0, 1]


async def test_what_is_forgotten_is_answered(terminal):
    """As when an interrupt comes before it."""
    terminal.fill(MOST_BYTES // 2)
    terminal.typed.clear()
    assert terminal.answers == [0]


async def test_an_end_answers_all(terminal):
    terminal.fill(MOST_BYTES // 2)
    terminal.type(PART)
    terminal.typed.close()
    assert terminal.answers == [0, 1]
