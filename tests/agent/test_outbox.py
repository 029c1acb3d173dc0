"""The agent's outbox: bytes are numbered, kept on disk until they are acknowledged, and survive the agent's death."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onsembl.agent.link.outbox import Outbox
from onsembl.agent.link.spool import Spool
from onsembl.protocol.stream import AcknowledgedUnsent, CannotResume, Inbox

ME = UUID(int=1)


def opened(folder: Path, **bounds: int) -> Outbox:
    return Outbox(folder, ME, **{"capacity": 1000, "memory": 50, "segment_bytes": 64} | bounds)


def drained(outbox: Outbox, limit: int = 37) -> bytes:
    seen = b""
    while frame := outbox.next_frame(limit):
        seen += frame[1]
    return seen


def test_bytes_survive_the_process_and_keep_their_offsets(tmp_path):
    """The first outbox is not closed, as when its process is killed; acknowledged bytes are not sent again."""
    text = bytes(range(256))
    first = opened(tmp_path)
    stream = uuid4()
    first.append(text[:200])
    first.assign(stream)
    assert first.next_frame(100) == (0, text[:100])
    first.acknowledge(70)
    second = opened(tmp_path)
    assert (second.stream_id, second.start, second.end) == (stream, 64, 200)
    second.acknowledge(150)  # bytes that the first has sent, acknowledged to the second
    second.resume(170)
    second.append(text[200:])
    assert drained(second) == text[170:]
    for outbox in (first, second):
        outbox.close()


def test_the_folder_stays_small(tmp_path):
    """Acknowledged bytes leave the disk, except those in the last file."""
    outbox = opened(tmp_path)
    for _ in range(100):
        outbox.append(b"x" * 90)
        assert len(drained(outbox)) == 90
        outbox.acknowledge(outbox.end)
        assert sum(file.stat().st_size for file in tmp_path.glob("[0-9]*")) <= 64
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {"0o600"}
    outbox.close()


def test_an_outbox_is_full_at_its_capacity(tmp_path):
    """The small memory does not count while the disk takes the bytes."""
    outbox = opened(tmp_path, capacity=200)
    outbox.append(b"x" * 199)
    assert not outbox.full
    outbox.append(b"x")
    assert outbox.full
    assert len(drained(outbox)) == 200
    outbox.acknowledge(1)
    assert not outbox.full
    outbox.close()


def test_a_new_stream_begins_with_the_unacknowledged_bytes(tmp_path):
    """This holds after a restart too; bytes that were written before the first stream are its beginning."""
    outbox = opened(tmp_path)
    outbox.append(b"before ")
    outbox.assign(uuid4())
    outbox.append(b"a" * 100 + b"rest")
    drained(outbox)
    outbox.acknowledge(107)
    outbox.assign(other := uuid4())
    assert (outbox.start, outbox.end, drained(outbox)) == (0, 4, b"rest")
    again = opened(tmp_path)
    assert (again.stream_id, again.start, again.end, drained(again)) == (other, 0, 4, b"rest")
    for box in (outbox, again):
        box.close()


def test_another_agents_bytes_are_not_sent(tmp_path):
    """Another agent was enrolled in the folder."""
    outbox = opened(tmp_path)
    outbox.assign(theirs := uuid4())
    outbox.append(b"secret")
    outbox.close()
    other = Outbox(tmp_path, UUID(int=2))
    assert (other.stream_id == theirs, other.start, other.end) == (False, 0, 0)
    other.append(b"mine")
    assert drained(other) == b"mine"
    other.close()


def test_impossible_offsets_raise(tmp_path):
    """They are an acknowledgement of unsent bytes, and a resume offset whose byte is not held."""
    outbox = opened(tmp_path)
    outbox.append(b"x" * 100)
    outbox.next_frame(10)
    with pytest.raises(AcknowledgedUnsent):
        outbox.acknowledge(11)
    outbox.acknowledge(5)
    for offset in (4, 101):
        with pytest.raises(CannotResume):
            outbox.resume(offset)
    outbox.close()


def test_memory_keeps_the_bytes_while_the_disk_is_full(tmp_path, monkeypatch):
    """The source waits when memory is full; when the disk has room again, all bytes are on disk. Each error is
    reported until then."""
    outbox = opened(tmp_path)
    errors: list[str] = []
    outbox.on_failed = errors.append
    assert outbox.write_again()
    outbox.append(b"first ")

    def no_room(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", no_room)
        outbox.append(b"x" * 49)
        assert not outbox.full
        outbox.append(b"y")
        assert outbox.full
        assert not outbox.write_again()
    assert errors == ["The agent cannot write its spool: [Errno 28] No space left on device"] * 3
    assert outbox.write_again()
    assert not outbox.full
    outbox.append(b" last")
    assert outbox.failure is None and len(errors) == 3
    again = opened(tmp_path)
    assert drained(again) == drained(outbox) == b"first " + b"x" * 49 + b"y last"
    for box in (outbox, again):
        box.close()


def test_a_spool_with_a_hole_keeps_the_bytes_after_it(tmp_path):
    """After a file was removed, the bytes that are left are one range."""
    spool = Spool(tmp_path, 10)
    spool.append(b"0123456789" * 3)
    spool.close()
    (tmp_path / f"{10:020d}").unlink()
    spool = Spool(tmp_path, 10)
    assert (spool.start, spool.end, spool.read(20, 100)) == (20, 30, b"0123456789")
    spool.close()


def test_unsent_bytes_cannot_be_acknowledged(tmp_path):
    """An acknowledgement past the sent bytes raises; one of sent bytes drops them."""
    outbox = opened(tmp_path)
    outbox.append(b"abc")
    with pytest.raises(AcknowledgedUnsent):
        outbox.acknowledge(1)
    outbox.next_frame(2)
    outbox.acknowledge(2)
    assert (outbox.start, outbox.sent, outbox.end) == (2, 2, 3)
    outbox.close()


def test_resuming_needs_a_byte_that_is_held(tmp_path):
    """Neither dropped bytes nor bytes that do not exist yet can be sent again."""
    outbox = opened(tmp_path)
    outbox.append(b"abcdef")
    outbox.next_frame(4)
    outbox.acknowledge(3)
    for offset in (2, 7):
        with pytest.raises(CannotResume):
            outbox.resume(offset)
    outbox.resume(3)
    assert outbox.next_frame(10) == (3, b"def")
    outbox.close()


def test_bytes_of_an_earlier_link_may_be_acknowledged_ahead_of_the_sent_ones(tmp_path):
    """Bytes that were sent once and acknowledged are not sent again; resuming at an offset acknowledges nothing."""
    outbox = opened(tmp_path)
    outbox.append(b"abcdef")
    outbox.next_frame(5)
    outbox.resume(2)
    assert outbox.start == 0
    assert outbox.next_frame(1) == (2, b"c")
    outbox.acknowledge(4)
    assert outbox.next_frame(10) == (4, b"ef")
    outbox.acknowledge(6)
    assert (outbox.start, outbox.end) == (6, 6)
    outbox.close()


def test_a_full_outbox_has_room_again_after_an_acknowledgement(tmp_path):
    """The source waits while the outbox is full, and goes on afterwards."""
    outbox = opened(tmp_path, capacity=4)
    outbox.append(b"abcd")
    assert outbox.full
    outbox.next_frame(10)
    outbox.acknowledge(1)
    assert not outbox.full
    outbox.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(
    appended=st.lists(st.binary(max_size=50), max_size=30),
    acknowledged=st.integers(0, 40),
    limit=st.integers(1, 20),
)
def test_a_new_stream_numbers_the_unacknowledged_bytes_from_0(appended, acknowledged, limit, tmp_path):
    """After `assign` of another stream the kept bytes are the same, from offset 0 on."""
    outbox = opened(tmp_path / uuid4().hex, capacity=10_000)
    outbox.assign(uuid4())
    for piece in appended:
        outbox.append(piece)
    whole = b"".join(appended)
    while outbox.next_frame(limit):
        pass
    upto = min(acknowledged, len(whole))
    outbox.acknowledge(upto)
    outbox.assign(uuid4())
    assert (outbox.start, outbox.sent, outbox.end) == (0, 0, len(whole) - upto)
    sent = b""
    while frame := outbox.next_frame(limit):
        assert frame[0] == len(sent)
        sent += frame[1]
    assert sent == whole[upto:]
    outbox.close()


@st.composite
def link_events(draw: st.DrawFn) -> list[tuple[str, int | bytes]]:
    """Bytes are written, frames sent, delivered late, twice or never, and links cut."""
    kinds = st.one_of(
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("send"), st.integers(1, 16)),
        st.tuples(st.just("deliver"), st.integers(0, 5)),
        st.tuples(st.just("repeat"), st.integers(0, 5)),
        st.tuples(st.just("acknowledge"), st.integers(0, 3)),
        st.tuples(st.just("cut"), st.just(0)),
    )
    return draw(st.lists(kinds, max_size=120))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(events=link_events())
def test_late_and_repeated_frames_change_nothing(events, tmp_path):
    """Frames of a link arrive in order, those of old links not at all; each byte is received once."""
    outbox, inbox = opened(tmp_path / uuid4().hex, capacity=1_000_000), Inbox()
    written, received = b"", b""
    wire: list[tuple[int, bytes]] = []
    delivered: list[tuple[int, bytes]] = []

    def deliver(frame: tuple[int, bytes]) -> None:
        nonlocal received
        received += inbox.receive(*frame)
        delivered.append(frame)

    for kind, value in events:
        if kind == "write":
            assert isinstance(value, bytes)
            written += value
            outbox.append(value)
        elif kind == "send":
            assert isinstance(value, int)
            frame = outbox.next_frame(value)
            if frame:
                wire.append(frame)
        elif kind == "deliver" and wire:
            deliver(wire.pop(0))
        elif kind == "repeat" and delivered:
            assert isinstance(value, int)
            deliver(delivered[value % len(delivered)])
        elif kind == "acknowledge":
            outbox.acknowledge(min(inbox.end, outbox.sent))
        elif kind == "cut":
            wire.clear()
            outbox.resume(inbox.end)
        assert written.startswith(received)
        assert outbox.end == len(written)
    wire_left = [*wire]
    for frame in wire_left:
        deliver(frame)
    outbox.resume(inbox.end)
    while frame := outbox.next_frame(7):
        deliver(frame)
    assert received == written
    outbox.close()


acts = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=90)),
        st.tuples(st.just("send"), st.integers(1, 60)),
        st.tuples(st.just("acknowledge"), st.integers(0, 100)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("kill"), st.just(0)),
        st.tuples(st.just("back"), st.integers(0, 100)),
    ),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(acts=acts)
def test_received_bytes_are_the_written_bytes(acts, tmp_path):
    """Each byte arrives once, with cut links, killed agents, and a receiver that asks for bytes again."""
    folder = tmp_path / uuid4().hex
    outbox, inbox, stream = opened(folder, capacity=10**6), Inbox(), uuid4()
    outbox.assign(stream)
    written = received = b""
    archived = 0
    for act, value in acts:
        match act:
            case "write":
                written += value
                outbox.append(value)
            case "send":
                if frame := outbox.next_frame(value):
                    received += inbox.receive(*frame)
            case "acknowledge":
                archived = max(archived, inbox.end - value)
                outbox.acknowledge(archived)
            case "back":
                outbox.resume(max(archived, min(inbox.end, outbox.end) - value))
            case "cut":
                outbox.resume(inbox.end)
            case _:
                outbox.close()
                outbox = opened(folder, capacity=10**6)
                assert outbox.stream_id == stream and outbox.start <= archived
                outbox.resume(inbox.end)
        assert outbox.end == len(written)
    while frame := outbox.next_frame(50):
        received += inbox.receive(*frame)
    assert received == written
    outbox.close()
