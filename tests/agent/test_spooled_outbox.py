"""What waits for the server, on disk before it leaves: bounded, and the same after the death of the agent."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onsembl.agent.link.spool import Spool
from onsembl.agent.link.spooled_outbox import SpooledOutbox
from onsembl.protocol.stream import AcknowledgedUnsent, CannotResume, Inbox

ME = UUID(int=1)


def opened(folder: Path, **bounds: int) -> SpooledOutbox:
    return SpooledOutbox(folder, ME, **{"capacity": 1000, "memory": 50, "segment_bytes": 64} | bounds)


def drained(outbox: SpooledOutbox, limit: int = 37) -> bytes:
    seen = b""
    while frame := outbox.next_frame(limit):
        seen += frame[1]
    return seen


def test_bytes_outlive_the_process_and_keep_their_numbers(tmp_path):
    """Nothing is closed, as when it is killed; what was acknowledged need not come again."""
    text = bytes(range(256))
    first = opened(tmp_path)
    stream = uuid4()
    first.append(text[:200])
    first.began(stream)
    assert first.next_frame(100) == (0, text[:100])
    first.acknowledge(70)
    second = opened(tmp_path)
    assert (second.stream_id, second.start, second.end) == (stream, 64, 200)
    second.acknowledge(150)  # of what the first had sent, said to the second
    second.resume(170)
    second.append(text[200:])
    assert drained(second) == text[170:]
    for outbox in (first, second):
        outbox.close()


def test_the_folder_stays_small(tmp_path):
    """What is acknowledged leaves the disk, but for the last file."""
    outbox = opened(tmp_path)
    for _ in range(100):
        outbox.append(b"x" * 90)
        assert len(drained(outbox)) == 90
        outbox.acknowledge(outbox.end)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 64
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {"0o600"}
    outbox.close()


def test_it_is_full_at_its_bound_on_disk(tmp_path):
    """And not before, however little is in memory."""
    outbox = opened(tmp_path, capacity=200)
    outbox.append(b"x" * 199)
    assert not outbox.full
    outbox.append(b"x")
    assert outbox.full
    assert len(drained(outbox)) == 200
    outbox.acknowledge(1)
    assert not outbox.full
    outbox.close()


def test_another_stream_begins_with_what_was_not_acknowledged(tmp_path):
    """Also after a restart; and what was written before there was a stream is its beginning."""
    outbox = opened(tmp_path)
    outbox.append(b"before ")
    outbox.began(uuid4())
    outbox.append(b"a" * 100 + b"rest")
    drained(outbox)
    outbox.acknowledge(107)
    outbox.began(other := uuid4())
    assert (outbox.start, outbox.end, drained(outbox)) == (0, 4, b"rest")
    again = opened(tmp_path)
    assert (again.stream_id, again.start, again.end, drained(again)) == (other, 0, 4, b"rest")
    for box in (outbox, again):
        box.close()


def test_another_agents_bytes_are_not_sent(tmp_path):
    """The folder was enrolled anew."""
    outbox = opened(tmp_path)
    outbox.began(uuid4())
    outbox.append(b"secret")
    outbox.close()
    other = SpooledOutbox(tmp_path, UUID(int=2))
    assert (other.stream_id, other.start, other.end) == (None, 0, 0)
    other.append(b"mine")
    assert drained(other) == b"mine"
    other.close()


def test_claims_that_cannot_be_are_refused(tmp_path):
    """Bytes never sent, and places that are not held."""
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


def test_a_full_disk_leaves_memory_and_is_made_up_for(tmp_path, monkeypatch):
    """The source waits when memory is full; once there is room again all is on disk."""
    outbox = opened(tmp_path)
    outbox.append(b"first ")

    def no_room(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", no_room)
        outbox.append(b"x" * 49)
        assert not outbox.full
        outbox.append(b"y")
        assert outbox.full
    outbox.append(b" last")
    assert not outbox.full
    again = opened(tmp_path)
    assert drained(again) == drained(outbox) == b"first " + b"x" * 49 + b"y last"
    for box in (outbox, again):
        box.close()


def test_a_spool_with_a_hole_keeps_what_is_after_it(tmp_path):
    """Somebody removed a file: what is left is in one piece."""
    spool = Spool(tmp_path, 10)
    spool.append(b"0123456789" * 3)
    spool.close()
    (tmp_path / f"{10:020d}").unlink()
    spool = Spool(tmp_path, 10)
    assert (spool.start, spool.end, spool.read(20, 100)) == (20, 30, b"0123456789")
    spool.close()


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
def test_what_arrives_is_what_was_written(acts, tmp_path):
    """Cuts, kills, and a receiver that asks for bytes again: each arrives, once."""
    folder = tmp_path / uuid4().hex
    outbox, inbox, stream = opened(folder, capacity=10**6), Inbox(), uuid4()
    outbox.began(stream)
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
