"""A viewer's position in a terminal: following the terminal gives the same frames as reading the ring."""

from __future__ import annotations

from typing import cast
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.api.terminals import terminal as terminal_module
from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.terminal import Terminal
from onsembl.api.terminals.viewed_terminal import Size
from onsembl.api.terminals.viewer import MAX_FRAME_BYTES, Viewer
from onsembl.protocol.control import Client
from onsembl.protocol.ids import StreamId
from onsembl.protocol.messages import Message, Times
from onsembl.sql.database import Pool

RING_BYTES = 100_000
SIZE = Size(80, 24)

happenings = st.one_of(
    st.tuples(st.just("bytes"), st.integers(1, 600)),
    st.tuples(st.just("bytes"), st.sampled_from([RING_BYTES + 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1])),
    st.tuples(st.just("size"), st.integers(0, 300)),
    st.tuples(st.just("control"), st.booleans()),
    st.tuples(st.just("stream"), st.booleans()),
    st.tuples(st.just("late"), st.booleans()),
    st.tuples(st.just("second"), st.booleans()),
)


class Kept:
    """A subscriber that follows the terminal if it can, and otherwise reads the ring, at once or, when `late`,
    afterwards."""

    def __init__(self, terminal: Terminal, *, follows: bool) -> None:
        self.viewer = Viewer(terminal, None, None, timed=True)
        self.had: list[bytes | Message] = []
        self.followed = 0
        self.late = False
        self._follows = follows

    def follow(self, start: int, data: bytes) -> None:
        follows = self._follows and not self.late
        if follows and (times := self.viewer.due_times(start)) is not None:
            self._have(times)
        if follows and self.viewer.follow(start, data):
            self.followed += 1
            self._have(data)
        else:
            self.wake()

    def wake(self) -> None:
        while not self.late and (frame := self.viewer.next()) is not None:
            self._have(frame)

    def _have(self, frame: bytes | Message) -> None:
        if isinstance(frame, bytes) and self.had and isinstance(self.had[-1], bytes):
            self.had[-1] += frame
        else:
            self.had.append(frame)


def _terminal() -> Terminal:
    return Terminal(RING_BYTES, Archiver(cast("Pool", None)), StreamId(uuid4()), 0, SIZE)


class Clock:
    """The seconds that the terminals see."""

    now = 1000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module", autouse=True)
def clock():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal_module, "time", clock := Clock())
        yield clock


@given(what=st.lists(happenings, max_size=40))
def test_following_is_reading(clock, what):
    """A follower has the same bytes and messages as a reader of the ring; chunks are cut to the ring's size, because a
    larger chunk leaves a gap for a reader only."""
    terminal = _terminal()
    following, reading = Kept(terminal, follows=True), Kept(terminal, follows=False)
    terminal.subscribe(following)
    terminal.subscribe(reading)
    number = 0
    for kind, value in what:
        match kind:
            case "bytes":
                data = bytes((number + index) % 251 for index in range(value))
                for at in range(0, len(data), RING_BYTES):
                    terminal.ingest(terminal.inbox.end, data[at : at + RING_BYTES])
                number += value
            case "size":
                number += 1
                terminal.resize(Size(80 + number % 50, 24), terminal.inbox.end + value)
            case "control":
                if value:
                    terminal.control.take(Client(UUID(int=number), "somebody"))
                elif terminal.control.controller is not None:
                    terminal.control.release(terminal.control.controller.id)
                terminal.wake()
            case "second":
                clock.now += 1
            case "stream":
                terminal.begin(StreamId(uuid4()), 0, SIZE)
            case _:
                following.late = reading.late = bool(value)
                terminal.wake()
    following.late = reading.late = False
    terminal.wake()
    assert following.had == reading.had


def test_a_viewer_that_keeps_up_is_given_the_object_that_came(clock):
    """A viewer that keeps up receives the appended object itself and does not read the ring; the first bytes of a
    second come after their time."""
    terminal = _terminal()
    kept = Kept(terminal, follows=True)
    terminal.subscribe(kept)
    kept.wake()
    terminal.ingest(0, b"first")
    assert kept.had == [Times(offsets=[0], seconds=[int(clock.now)]), b"first"]
    kept.had.clear()
    chunk = b"x" * 100
    terminal.ingest(5, chunk)
    assert kept.followed == 2 and kept.had == [chunk]
    assert kept.viewer.next() is None
