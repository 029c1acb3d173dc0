"""Decoding replication messages, without a database."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.replication.pgoutput import (
    UNCHANGED,
    BadReplicationMessage,
    Change,
    Decoder,
    Relation,
    RelationColumn,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
    Truncate,
    Type,
)


def string(text: str) -> bytes:
    return text.encode() + b"\0"


def relation(oid: int = 7, columns: tuple[str, ...] = ("id", "text")) -> bytes:
    body = struct.pack(">I", oid) + string("public") + string("notes") + b"d" + struct.pack(">H", len(columns))
    for number, name in enumerate(columns):
        body += struct.pack(">B", number == 0) + string(name) + struct.pack(">Ii", 25, -1)
    return b"R" + body


def row(*values: object) -> bytes:
    body = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            body += b"n"
        elif value is UNCHANGED:
            body += b"u"
        else:
            text = str(value).encode()
            body += b"t" + struct.pack(">I", len(text)) + text
    return body


VALUES = st.none() | st.just(UNCHANGED) | st.text()


@given(st.text(), VALUES)
def test_a_row_is_decoded(key, value):
    """A decoded row has its values: text, null and unchanged."""
    decoder = Decoder()
    decoder.decode(relation())
    change = decoder.decode(b"I" + struct.pack(">I", 7) + b"N" + row(key, value))
    assert isinstance(change, Change)
    assert change.new == {"id": key, "text": value}


def test_a_relation_describes_its_table():
    """A relation has its table's columns and those of the replica identity."""
    assert Decoder().decode(relation()) == Relation(
        7, "public", "notes", "d", (RelationColumn("id", 25, True), RelationColumn("text", 25, False))
    )


def test_old_keys_and_old_rows():
    """An old key has the key's columns, an old row has all columns, and an update may have neither."""
    decoder = Decoder()
    decoder.decode(relation())
    head = struct.pack(">I", 7)
    plain = decoder.decode(b"U" + head + b"N" + row(1, "a"))
    by_key = decoder.decode(b"U" + head + b"K" + row(1, None) + b"N" + row(2, "a"))
    whole = decoder.decode(b"U" + head + b"O" + row(1, "a") + b"N" + row(1, "b"))
    gone = decoder.decode(b"D" + head + b"K" + row(1, None))
    assert isinstance(plain, Change)
    assert isinstance(by_key, Change)
    assert isinstance(whole, Change)
    assert isinstance(gone, Change)
    assert (plain.old, by_key.old, whole.old) == (None, {"id": "1"}, {"id": "1", "text": "a"})
    assert (gone.new, gone.old) == (None, {"id": "1"})


def test_a_streamed_transaction_carries_its_number():
    """Messages between StreamStart and StreamStop have the transaction's number; others have none."""
    decoder = Decoder()
    xid = struct.pack(">I", 99)
    assert decoder.decode(b"S" + xid + b"\x01") == StreamStart(99, True)
    decoder.decode(b"R" + xid + relation()[1:])
    assert decoder.decode(b"Y" + xid + struct.pack(">I", 5) + string("public") + string("mood")) == Type(
        5, "public", "mood"
    )
    change = decoder.decode(b"I" + xid + struct.pack(">I", 7) + b"N" + row(1, "a"))
    assert isinstance(change, Change)
    assert change.xid == 99
    truncate = decoder.decode(b"T" + xid + struct.pack(">IB", 1, 3) + struct.pack(">I", 7))
    assert isinstance(truncate, Truncate)
    assert (truncate.xid, truncate.cascade, truncate.restart_identity) == (99, True, True)
    assert decoder.decode(b"E") == StreamStop()
    assert isinstance(decoder.decode(b"c" + xid + struct.pack(">BQQq", 0, 1, 2, 3)), StreamCommit)
    assert decoder.decode(b"A" + xid + xid) == StreamAbort(99, 99)
    change = decoder.decode(b"I" + struct.pack(">I", 7) + b"N" + row(1, "a"))
    assert isinstance(change, Change)
    assert change.xid is None


@given(st.binary())
def test_any_bytes_are_decoded_or_raise_bad_replication_message(data):
    """Any bytes are decoded or raise BadReplicationMessage, and no other error."""
    decoder = Decoder()
    decoder.decode(relation())
    with contextlib.suppress(BadReplicationMessage):
        decoder.decode(data)


@pytest.mark.parametrize("size", range(1, 24))
def test_a_short_message_is_rejected(size):
    """A message that is cut at any place is rejected."""
    decoder = Decoder()
    decoder.decode(relation())
    whole = b"I" + struct.pack(">I", 7) + b"N" + row(1, "abcde")
    assert len(whole) == 24
    with pytest.raises(BadReplicationMessage):
        decoder.decode(whole[:size])


def test_kinds_without_rows_are_ignored():
    """Origins and logical messages are ignored."""
    assert Decoder().decode(b"O" + bytes(8) + string("x")) is None
