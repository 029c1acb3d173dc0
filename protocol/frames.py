"""WebSocket frames (RFC 6455, section 5.2): finds the frames of a client, and encodes those of a server."""

from __future__ import annotations

import struct

_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">Q")
_SHORT_HEAD = struct.Struct(">BBH")
_LONG_HEAD = struct.Struct(">BBQ")

WHOLE_TEXT = 0x81
WHOLE_BINARY = 0x82
"""The first byte of a text or binary message in a single frame."""
_RESERVED = 0x70
_MASKED = 0x80
_LENGTH = 0x7F


class NotAFrame(Exception):
    """The bytes are not a client's frame, or the frame is too large."""


def client_frame(data: bytes, at: int, longest: int) -> tuple[int, int, int] | None:
    """The frame that begins at `at`: its first byte, the start of its payload, and its end.

    The four bytes before the payload are its mask. None while the header or the payload is incomplete. Raises NotAFrame
    for a header without a mask, with reserved bits, or with a payload of more than `longest` bytes.
    """
    here = len(data) - at
    if here < 2:
        return None
    first, second = data[at], data[at + 1]
    if first & _RESERVED or not second & _MASKED:
        raise NotAFrame
    length = second & _LENGTH
    payload = at + 6
    if length == 126:
        if here < 4:
            return None
        (length,) = _SHORT.unpack_from(data, at + 2)
        payload += 2
    elif length == 127:
        if here < 10:
            return None
        (length,) = _LONG.unpack_from(data, at + 2)
        payload += 8
    if length > longest:
        raise NotAFrame
    end = payload + length
    return (first, payload, end) if end <= len(data) else None


def server_frame(first: int, data: bytes) -> bytes:
    """Encode a whole message as a server's frame, which has no mask. `first` is the first byte, with the kind."""
    length = len(data)
    if length < 126:
        return bytes((first, length)) + data
    if length < 65_536:
        return _SHORT_HEAD.pack(first, 126, length) + data
    return _LONG_HEAD.pack(first, 127, length) + data
