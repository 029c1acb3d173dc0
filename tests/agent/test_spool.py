"""An agent's output is in the archive once, whatever dies and whichever disk is full."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from onsembl.agent.link import outbox as outbox_module
from onsembl.agent.link.outbox import Outbox
from onsembl.agent.link.spool import Spool
from onsembl.protocol.messages import StreamTail
from onsembl.protocol.resume import HeldBytes, new_stream_offset, resume_offset
from onsembl.protocol.ring import BehindRing

AGENT = UUID(int=1)
FULL = OSError(28, "No space left on device")


@dataclass
class Stream:
    """A stream of the simulated server: its archive, and the stream that it continues."""

    continues: UUID
    continues_at: int
    archived: bytearray = field(default_factory=bytearray)


class Machine(RuleBasedStateMachine):
    """A real outbox on a disk that fills up, and the server's rules over a simulated archive.

    The program writes numbers, so that each byte says what it is.
    """

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)  # no machine loses its power here
        self.folder = tempfile.TemporaryDirectory(prefix="onsembl-once-")
        self.disk_full = False
        append, replace = Spool.append, outbox_module.replace_file

        def append_to_disk(spool: Spool, data: bytes) -> None:
            if self.disk_full:
                raise FULL
            append(spool, data)

        def replace_on_disk(path: Path, pieces: list[bytes]) -> None:
            if self.disk_full:
                raise FULL
            replace(path, pieces)

        self.patch.setattr(Spool, "append", append_to_disk)
        self.patch.setattr(outbox_module, "replace_file", replace_on_disk)
        self.streams: dict[UUID, Stream] = {}
        self.newest: UUID | None = None
        self.memory: bytearray | None = None
        """Bytes of the newest stream in the server's memory, from `memory_start` on."""
        self.memory_start = 0
        self.connected = False
        self.written = 0
        self.lost: set[int] = set()
        self.outbox = self._open()

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.disk_full = False
            self.connect(True)
            self.send(1000)
            self.archive(1000)
            self.check()
            archived = self._archived()
            self.outbox.close()
            self.patch.undo()
            self.folder.cleanup()
            missing = sorted(set(range(self.written)) - set(archived) - self.lost)
            assert missing == [], "bytes that the agent had are missing"

    def check(self) -> None:
        """Check what else is to hold at the end."""

    def _open(self) -> Outbox:
        return Outbox(Path(self.folder.name), AGENT, capacity=400, memory=200, segment_bytes=64)

    def _archived(self) -> list[int]:
        return [number for stream in self.streams.values() for (number,) in struct.iter_unpack(">I", stream.archived)]

    @invariant()
    def nothing_is_archived_twice(self) -> None:
        if hasattr(self, "outbox"):
            archived = self._archived()
            assert len(archived) == len(set(archived)), "bytes were archived twice"

    # The agent's machine

    @precondition(lambda self: not self.outbox.full)
    @rule(count=st.integers(1, 30))
    def write(self, count: int) -> None:
        numbers = range(self.written, self.written + count)
        self.outbox.append(struct.pack(f">{count}I", *numbers))
        self.written += count

    @rule(full=st.booleans())
    def fill_or_empty_the_disk(self, full: bool) -> None:
        self.disk_full = full

    @rule()
    def kill_the_agent(self) -> None:
        """What was in memory alone is lost."""
        in_memory = self._numbers(self.outbox)
        self.outbox.close()
        self.connected = False
        self.outbox = self._open()
        self.lost |= in_memory - self._numbers(self.outbox)

    def _numbers(self, outbox: Outbox) -> set[int]:
        data = b""
        while (at := outbox.start + len(data)) < outbox.end:
            try:
                data += outbox._memory.read(at, 1000)
            except BehindRing:
                data += outbox._spool.read(at + outbox._base, 1000)
        return {number for (number,) in struct.iter_unpack(">I", data)}

    # The connection

    @rule(welcomed=st.booleans())
    def connect(self, welcomed: bool) -> None:
        """The server answers the hello, as AgentPresence does. The answer may be lost."""
        outbox = self.outbox
        self.connected = False
        tail = None
        if outbox.stream_id is not None:
            tail = StreamTail(
                id=outbox.stream_id,
                start=outbox.start,
                end=outbox.end,
                sent_end=outbox.sent_end,
                earlier=outbox.earlier,
            )
        offset, begins_at = self._answer(tail)
        if welcomed:
            assert self.newest is not None
            outbox.assign(self.newest, begins_at)
            outbox.resume(offset)
            self.connected = True
        self.reported(tail, welcomed)

    def reported(self, tail: StreamTail | None, welcomed: bool) -> None:
        """What else the hello has, besides its `tail`."""

    def _answer(self, tail: StreamTail | None) -> tuple[int, int | None]:
        if tail is not None and tail.id == self.newest:
            held = None
            if self.memory is not None:
                end = self.memory_start + len(self.memory)
                held = HeldBytes(self.newest, self.memory_start, end, end)
            offset = resume_offset(tail, len(self.streams[self.newest].archived), held)
            if offset is not None:
                if held is None or offset != held.end:
                    self.memory, self.memory_start = bytearray(), offset
                return offset, None
        if tail is not None:
            self._add_unknown(tail)
        new, begins_at = uuid4(), None
        before, before_at = new, 0
        if tail is not None:
            archived, newest_at = self._former_output(tail.id)
            begins_at = new_stream_offset(tail, archived)
            before, before_at = tail.id, begins_at
            if newest_at is not None and self.newest is not None:
                before, before_at = self.newest, begins_at - newest_at
        self.streams[new] = Stream(before, before_at)
        self.newest, self.memory, self.memory_start = new, bytearray(), 0
        return 0, begins_at

    def _add_unknown(self, tail: StreamTail) -> None:
        """The model of `stream_chains.add_unknown`."""
        places = [(tail.id, 0), *((stream.id, stream.at) for stream in tail.earlier)]
        first_known = next((number for number, (id, _) in enumerate(places) if id in self.streams), 0)
        for (id, at), (before, before_at) in pairwise(places[: first_known + 1]):
            self.streams[id] = Stream(before, before_at - at)

    def _former_output(self, named: UUID) -> tuple[int, int | None]:
        """The model of `archive.former_output`."""
        at, place = 0, self.newest
        while place is not None and place != named:
            stream = self.streams.get(place)
            if stream is None or stream.continues == place:
                break
            at, place = at + stream.continues_at, stream.continues
        if place == named and self.newest is not None:
            return at + len(self.streams[self.newest].archived), at
        return len(self.streams[named].archived) if named in self.streams else 0, None

    @precondition(lambda self: self.connected)
    @rule(size=st.integers(1, 100))
    def send(self, size: int) -> None:
        assert self.memory is not None
        while frame := self.outbox.next_frame(size * 4):
            offset, data = frame
            end = self.memory_start + len(self.memory)
            assert offset <= end, "a gap"
            self.memory += data[end - offset :]
            if size < 100:
                return

    # The server

    @precondition(lambda self: bool(self.memory))
    @rule(count=st.integers(1, 100))
    def archive(self, count: int) -> None:
        """Archive bytes from memory; the acknowledgement is another step."""
        assert self.memory is not None and self.newest is not None
        archived = self.streams[self.newest].archived
        if self.memory_start <= len(archived):
            archived += self.memory[len(archived) - self.memory_start :][: count * 4]

    @precondition(lambda self: self.connected)
    @rule()
    def acknowledge(self) -> None:
        assert self.newest is not None
        self.outbox.acknowledge(len(self.streams[self.newest].archived))

    @rule()
    def kill_the_server(self) -> None:
        """Its memory is gone; the archive has what was written."""
        self.memory, self.connected = None, False


@pytest.mark.parametrize("examples", [60, pytest.param(500, marks=pytest.mark.soak)])
def test_output_is_archived_once(examples: int):
    """Whatever is killed and whenever the disk is full, no byte is archived twice, and none is missing that the agent
    still had."""
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=40))


LOST_AFTER_THE_ARCHIVE: list[tuple[Any, ...]] = [
    *(("begin",), ("write", 10), ("connect", True), ("send", 1000), ("archive", 1000)),
    *(("fill_or_empty_the_disk", True), ("write", 5), ("send", 1000), ("archive", 1000), ("kill_the_agent",)),
    *(("fill_or_empty_the_disk", False), ("write", 10), ("connect", True)),
]
"""The agent comes back without its newest bytes, which the archive has, and with others in their place."""


@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        ("resume_offset", lambda tail, archived, held: archived, "bytes that the agent had are missing"),
        ("new_stream_offset", lambda tail, archived: tail.start, "bytes were archived twice"),
    ],
)
def test_a_missing_guard_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Callable[..., int], said: str
) -> None:
    """The steps pass with the rules of the server and fail without them."""
    _take(LOST_AFTER_THE_ARCHIVE)
    monkeypatch.setitem(Machine._answer.__globals__, name, broken)
    with pytest.raises(AssertionError, match=said):
        _take(LOST_AFTER_THE_ARCHIVE)


def _take(steps: list[tuple[Any, ...]]) -> None:
    machine = Machine()
    for name, *values in steps:
        getattr(Machine, name)(machine, *values)
    machine.teardown()
    machine.nothing_is_archived_twice()
