"""WebSocket frames as RFC 6455 (section 5.2) lays them out: finding their ends, and writing a server's."""

from __future__ import annotations

import struct

_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">Q")
_SHORT_HEAD = struct.Struct(">BBH")
_LONG_HEAD = struct.Struct(">BBQ")

WHOLE_TEXT = 0x81
WHOLE_BINARY = 0x82
"""The first byte of a text or a binary message that is one frame."""
_RESERVED = 0x70
_MASKED = 0x80
_LENGTH = 0x7F


class NotAFrame(Exception):
    """What comes is not a client's frame, or is larger than it may be."""


def client_frame(data: bytes, at: int, longest: int) -> tuple[int, int, int] | None:
    """The frame that begins at `at`; None while its header or its payload is not all there.

    Its first byte, where its payload begins (the four bytes before are its mask), and where it ends.

    Raises NotAFrame as soon as its header says so: unmasked, with reserved bits, or with a payload of more than
    `longest` bytes.
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
    """A server's frame, which has no mask, with a whole message: `first` says of which kind."""
    length = len(data)
    if length < 126:
        return bytes((first, length)) + data
    if length < 65_536:
        return _SHORT_HEAD.pack(first, 126, length) + data
    return _LONG_HEAD.pack(first, 127, length) + data
