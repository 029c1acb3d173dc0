"""The wire formats of Phoenix channels that Supabase's clients use. No I/O.

Version 1.0.0 is JSON objects; 2.0.0 is JSON arrays, and binary frames for broadcasts:

    kind 0, from a client    an event whose payload is bytes (Phoenix's own; no channel here uses one)
    kind 3, from a client    a broadcast: 3, then the lengths (a byte each) of join_ref, ref, topic, event and meta, the
                             encoding of the payload (0 bytes, 1 JSON), then these fields and the payload
    kind 4, to a client      a broadcast: 4, the lengths of topic, event and meta, the encoding, the fields, the payload
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import orjson

logger = logging.getLogger(__name__)

Version = Literal["1.0.0", "2.0.0"]
Ref = str | int | None
"""The client's number of a message; the reply repeats it unchanged."""

PUSH_KIND, BROADCAST_PUSH_KIND, BROADCAST_KIND = 0, 3, 4
MAX_FIELD_BYTES = 255


class BadFrame(ValueError):
    """The data is no frame of this version; the socket stays open."""


class Unencodable(ValueError):
    """The message has no form in this version, such as bytes in 1.0.0; it is not sent."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message on a topic. A push by the server has no refs."""

    topic: str
    event: str
    payload: Mapping[str, Any]
    ref: Ref = None
    join_ref: Ref = None


@dataclass(frozen=True, slots=True)
class BroadcastMessage:
    """A broadcast of a binary frame. `event` is the sender's name for it; `body` is JSON, or any bytes."""

    topic: str
    event: str
    body: bytes
    is_json: bool
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ref: Ref = None
    join_ref: Ref = None


Message = Frame | BroadcastMessage


def decode(data: str | bytes, version: Version) -> Message:
    """Decode a client's frame. Raises BadFrame."""
    if isinstance(data, bytes):
        if version == "1.0.0":
            raise BadFrame("binary frames are of version 2.0.0")
        return _decode_binary(data)
    try:
        raw: object = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadFrame(f"not JSON: {error}") from error
    if version == "1.0.0":
        if not isinstance(raw, dict):
            raise BadFrame("not an object")
        record = cast(dict[str, object], raw)
        fields = [record.get(name) for name in ("join_ref", "ref", "topic", "event", "payload")]
    else:
        fields = cast(list[object], raw)
        if not isinstance(raw, list) or len(fields) != 5:
            raise BadFrame("not an array of five")
    join_ref, ref, topic, event, payload = fields
    if not isinstance(topic, str) or not isinstance(event, str):
        raise BadFrame("topic and event are strings")
    if not _is_ref(ref) or not _is_ref(join_ref):
        raise BadFrame("refs are strings")
    if not isinstance(payload, dict):
        payload = {}
    return Frame(topic, event, cast(dict[str, Any], payload), cast(Ref, ref), cast(Ref, join_ref))


def encode(message: Message, version: Version) -> str | bytes:
    """Encode a frame for a client: text, or bytes for a broadcast in 2.0.0. Raises Unencodable."""
    if isinstance(message, BroadcastMessage):
        if version == "2.0.0" and _fits(message):
            return _encode_binary(message)
        message = _as_frame(message)
    try:
        if version == "1.0.0":
            return orjson.dumps(
                {"topic": message.topic, "event": message.event, "payload": message.payload, "ref": message.ref}
            ).decode()
        return orjson.dumps([message.join_ref, message.ref, message.topic, message.event, message.payload]).decode()
    except TypeError as error:
        raise Unencodable(str(error)) from error


def reply(to: Message, status: str, response: Mapping[str, Any], join_ref: Ref = None) -> Frame:
    """The `phx_reply` to a client's message. `join_ref` is the channel's, for a message without one."""
    payload = {"status": status, "response": response}
    return Frame(to.topic, "phx_reply", payload, to.ref, to.join_ref if to.join_ref is not None else join_ref)


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame as it is sent, and its size in bytes."""

    data: str | bytes
    size: int


class SharedMessage:
    """A message for many clients, encoded once for each version."""

    __slots__ = ("_encoded", "_message")

    def __init__(self, message: Message) -> None:
        self._message = message
        self._encoded: dict[Version, EncodedFrame | None] = {}

    @property
    def topic(self) -> str:
        return self._message.topic

    def encoded(self, version: Version) -> EncodedFrame | None:
        """The frame; None when the message has no form in this version."""
        if version not in self._encoded:
            try:
                data = encode(self._message, version)
                self._encoded[version] = EncodedFrame(data, size_of(data))
            except Unencodable as error:
                logger.info("A message has no form in %s: %s", version, error, extra={"action": "realtime_unencodable"})
                self._encoded[version] = None
        return self._encoded[version]


def size_of(data: str | bytes) -> int:
    """The size of a frame in bytes."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def is_encodable(value: object) -> bool:
    """Whether a client's JSON can be sent to others: the encoder allows less deeply nested JSON than the decoder."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _is_ref(value: object) -> bool:
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _as_frame(message: BroadcastMessage) -> Frame:
    """The broadcast as a text frame, for version 1.0.0."""
    if not message.is_json:
        raise Unencodable("bytes have no text form")
    try:
        orjson.loads(message.body)
    except orjson.JSONDecodeError as error:
        raise Unencodable(f"the payload is not JSON: {error}") from error
    payload: dict[str, Any] = {"event": message.event, "payload": orjson.Fragment(message.body), "type": "broadcast"}
    if message.meta:
        payload["meta"] = message.meta
    return Frame(message.topic, "broadcast", payload)


def _fits(message: BroadcastMessage) -> bool:
    return all(len(part) <= MAX_FIELD_BYTES for part in _fields(message))


def _fields(message: BroadcastMessage) -> tuple[bytes, bytes, bytes]:
    meta = orjson.dumps(message.meta) if message.meta else b""
    return message.topic.encode(), message.event.encode(), meta


def _encode_binary(message: BroadcastMessage) -> bytes:
    topic, event, meta = _fields(message)
    head = bytes((BROADCAST_KIND, len(topic), len(event), len(meta), int(message.is_json)))
    return b"".join((head, topic, event, meta, message.body))


def _decode_binary(data: bytes) -> Message:
    try:
        match data[0]:
            case 3:
                return _decode_broadcast(data)
            case 0:
                lengths = struct.unpack_from("4B", data, 1)
                (join_ref, ref, topic, event), _ = _split(data, 5, lengths)
                return Frame(topic, event, {}, ref or None, join_ref or None)
            case kind:
                raise BadFrame(f"no such kind of binary frame: {kind}")
    except (struct.error, IndexError) as error:
        raise BadFrame("a binary frame is cut short") from error


def _decode_broadcast(data: bytes) -> BroadcastMessage:
    *lengths, encoding = struct.unpack_from("6B", data, 1)
    if encoding not in (0, 1):
        raise BadFrame(f"no such encoding: {encoding}")
    (join_ref, ref, topic, event, meta), end = _split(data, 7, lengths)
    try:
        parsed: object = orjson.loads(meta) if meta else {}
    except orjson.JSONDecodeError as error:
        raise BadFrame(f"meta is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise BadFrame("meta is an object")
    known = cast(dict[str, Any], parsed)
    return BroadcastMessage(topic, event, data[end:], encoding == 1, known, ref or None, join_ref or None)


def _split(data: bytes, at: int, lengths: tuple[int, ...] | list[int]) -> tuple[list[str], int]:
    """The strings of these lengths from `at` on, and the end of the last one."""
    parts: list[str] = []
    for length in lengths:
        if at + length > len(data):
            raise BadFrame("a binary frame is cut short")
        try:
            parts.append(data[at : at + length].decode())
        except UnicodeDecodeError as error:
            raise BadFrame("not UTF-8") from error
        at += length
    return parts, at
