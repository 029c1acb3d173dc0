"""Both wire formats."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.channels.serializer import (
    BadFrame,
    BroadcastMessage,
    Frame,
    Unencodable,
    decode,
    encode,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FIELD = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
REFS = st.none() | FIELD.filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = st.dictionaries(TEXT, JSON, max_size=4)


@given(TEXT, TEXT, PAYLOADS, REFS, REFS)
def test_text_frames_of_2_0_0_are_decoded_as_encoded(topic, event, payload, ref, join_ref):
    """A frame of 2.0.0 is a JSON array, and decodes to the same frame."""
    frame = Frame(topic, event, payload, ref, join_ref)
    text = encode(frame, "2.0.0")
    assert json.loads(text) == [join_ref, ref, topic, event, payload]
    assert decode(text, "2.0.0") == frame


@given(TEXT, TEXT, PAYLOADS, REFS)
def test_text_frames_of_1_0_0_are_decoded_as_encoded(topic, event, payload, ref):
    """A frame of 1.0.0 is a JSON object with a ref and without a join_ref."""
    text = encode(Frame(topic, event, payload, ref, "ignored"), "1.0.0")
    assert json.loads(text) == {"topic": topic, "event": event, "payload": payload, "ref": ref}
    assert decode(text, "1.0.0") == Frame(topic, event, payload, ref)


def client_frame(message: BroadcastMessage) -> bytes:
    """The binary frame that a client sends."""
    meta = json.dumps(message.meta).encode() if message.meta else b""
    fields = [str(f or "").encode() for f in (message.join_ref, message.ref, message.topic, message.event)] + [meta]
    return bytes([3, *map(len, fields), message.is_json]) + b"".join(fields) + message.body


@given(FIELD, FIELD, st.binary(), st.booleans(), st.sampled_from([{}, {"a": 1}]), REFS, REFS)
def test_binary_broadcasts_are_decoded(topic, event, body, is_json, meta, ref, join_ref):
    """A client's binary broadcast, kind 3, is decoded with its lengths in bytes of UTF-8."""
    message = BroadcastMessage(topic, event, body, is_json, meta, ref, join_ref)
    assert decode(client_frame(message), "2.0.0") == message


@given(FIELD, FIELD, st.binary(), st.booleans(), st.sampled_from([{}, {"id": "x"}]))
def test_binary_broadcasts_are_encoded(topic, event, body, is_json, meta):
    """A broadcast to a client is a binary frame of kind 4."""
    data = encode(BroadcastMessage(topic, event, body, is_json, meta), "2.0.0")
    assert isinstance(data, bytes)
    kind, *lengths, encoding = data[:5]
    assert (kind, encoding) == (4, is_json)
    rest, parts = data[5:], []
    for length in lengths:
        parts.append(rest[:length].decode())
        rest = rest[length:]
    assert parts[:2] == [topic, event]
    assert json.loads(parts[2] or "{}") == meta
    assert rest == body


def test_a_broadcast_in_1_0_0_is_json():
    """In 1.0.0 a broadcast is a text frame, with its meta if it has one."""
    text = encode(BroadcastMessage("t", "e", b'{"a":1}', True, {"id": "x"}), "1.0.0")
    payload = {"event": "e", "payload": {"a": 1}, "type": "broadcast", "meta": {"id": "x"}}
    assert json.loads(text) == {"topic": "t", "event": "broadcast", "payload": payload, "ref": None}


@pytest.mark.parametrize("message", [BroadcastMessage("t", "e", b"\0", False), BroadcastMessage("t", "e", b"{", True)])
def test_a_broadcast_without_a_form_in_1_0_0_is_not_sent(message):
    """Bytes, and a body that is no JSON, have no form in 1.0.0."""
    with pytest.raises(Unencodable):
        encode(message, "1.0.0")


def test_long_names_are_sent_as_text():
    """A topic too long for a length of one byte is sent in the text form."""
    text = encode(BroadcastMessage("t" * 300, "e", b'{"a":1}', True), "2.0.0")
    assert json.loads(text)[4]["payload"] == {"a": 1}
    with pytest.raises(Unencodable):
        encode(BroadcastMessage("t" * 300, "e", b"", False), "2.0.0")


def test_phoenix_own_binary_push():
    """Phoenix's own binary push, kind 0, is decoded as an event without a payload."""
    assert decode(b"\x00\x01\x01\x01\x0112te" + b"data", "2.0.0") == Frame("t", "e", {}, "2", "1")


@given(st.binary() | st.text() | st.binary().map(lambda rest: b"\x03" + rest))
def test_any_data_is_decoded_or_raises_bad_frame(data):
    """Any data is decoded or raises BadFrame, and no other error."""
    for version in ("1.0.0", "2.0.0"):
        with contextlib.suppress(BadFrame):
            decode(data, version)


@pytest.mark.parametrize(
    "data",
    ["", "1", "{}", '{"topic":1,"event":"e"}', "[1,2,3,4]", '["1","1",null,"e",{}]', '[{},"1","t","e",{}]', "[" * 5000],
)
def test_malformed_text_is_rejected(data):
    """Malformed text raises BadFrame in both versions."""
    for version in ("1.0.0", "2.0.0"):
        with pytest.raises(BadFrame):
            decode(data, version)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x03", b"\x03\x00\x00\x00\x00\x00\x02", b"\x03\x00\x00\x01\x00\x00\x00", b"\x03\x00\x00\x00\x00\x01\x001"],
)
def test_malformed_bytes_are_rejected(data):
    """A short frame, an unknown encoding and a meta that is no object raise BadFrame."""
    with pytest.raises(BadFrame):
        decode(data, "2.0.0")


def test_json_that_is_nested_too_deeply_is_not_sent():
    """JSON that can be decoded, but is nested too deeply to encode, raises Unencodable."""
    deep = "[" * 500 + "]" * 500
    frame = decode(f'[null,null,"t","e",{{"a":{deep}}}]', "2.0.0")
    with pytest.raises(Unencodable):
        encode(frame, "2.0.0")
