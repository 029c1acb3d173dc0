"""The bounds of WebSocket frames, compared with the parser and the serializer of `websockets`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from onsembl.protocol.frames import WHOLE_BINARY, WHOLE_TEXT, NotAFrame, client_frame, server_frame

LONGEST = 100_000
sizes = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 127, 65_535, 65_536, LONGEST]))


DATA = st.tuples(sizes, st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY]), st.booleans())
CONTROL = st.tuples(st.integers(0, 125), st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]), st.just(True))


@given(st.lists(st.one_of(DATA, CONTROL), max_size=6), st.data())
def test_every_frame_ends_where_it_ends(frames, data):
    """A frame is found at its exact bounds: an incomplete frame is none yet, and later bytes are not read."""
    written = [Frame(opcode, b"x" * size, fin).serialize(mask=True) for size, opcode, fin in frames]
    stream, at = b"".join(written), 0
    for one, (size, opcode, fin) in zip(written, frames, strict=True):
        cut = data.draw(st.integers(0, len(one) - 1))
        assert client_frame(stream[: at + cut], at, LONGEST) is None
        assert client_frame(stream, at, LONGEST) == (opcode | fin << 7, at + len(one) - size, at + len(one))
        at += len(one)
    assert client_frame(stream, at, LONGEST) is None


@pytest.mark.parametrize("bad", [b"\x82\x05", b"\xc2\x85", b"\x92\x85", b"\x82\xff" + (LONGEST + 1).to_bytes(8, "big")])
def test_what_is_no_clients_frame_is_told_by_its_head(bad):
    """An unmasked, reserved or too long frame is rejected by its header, before its payload arrives."""
    with pytest.raises(NotAFrame):
        client_frame(bad, 0, LONGEST)


@given(sizes)
def test_a_servers_frame_is_as_others_write_it(size):
    """A server's frame equals the frame that `websockets` writes without a mask."""
    payload = bytes(index % 251 for index in range(size))
    assert server_frame(WHOLE_BINARY, payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)
    assert server_frame(WHOLE_TEXT, payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
