"""Splits a CLI's output into lines and decodes each as a JSON object. No I/O.

Nothing that a CLI writes raises: a line that is no JSON object is returned as text, as it may be of a wrapper script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import msgspec

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is dropped, so that a program without line feeds does not fill the memory."""

Json = dict[str, Any]
_KEPT_BYTES = 512
"""Of a line that is dropped, so much of its begin and of its end is kept."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


class DroppedLine(str):
    """The text in the place of a line that was too long; `head` and `tail` are its first and its last bytes."""

    head: bytes
    tail: bytes


class JsonLines:
    """`feed` takes bytes in any pieces; it and `end` return each whole line: an object, or a text that is none."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._unfinished: list[bytes] = []
        self._size = 0
        self._dropped: DroppedLine | None = None

    def feed(self, data: bytes) -> Iterator[Json | str]:
        """Decode the lines that end in `data`; an unfinished line is kept until its end comes."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._keep(part)
            yield from self._take()
        self._keep(rest)

    def end(self) -> Iterator[Json | str]:
        """Decode the last line, if it has no line feed."""
        yield from self._take()

    def _keep(self, part: bytes) -> None:
        if self._dropped is not None:
            self._dropped.tail = (self._dropped.tail + part[-_KEPT_BYTES:])[-_KEPT_BYTES:]
            return
        if part:
            self._unfinished.append(part)
            self._size += len(part)
        if self._size > self._limit:
            self._dropped = DroppedLine(f"A line of more than {self._limit:,} bytes was left out.")
            line = b"".join(self._unfinished)
            self._dropped.head, self._dropped.tail = line[:_KEPT_BYTES], line[-_KEPT_BYTES:]
            self._unfinished, self._size = [], 0

    def _take(self) -> Iterator[Json | str]:
        if self._dropped is not None:
            yield self._dropped
            self._dropped = None
            return
        line = b"".join(self._unfinished)
        self._unfinished, self._size = [], 0
        if line.strip():
            yield _decode(line)


def _decode(line: bytes) -> Json | str:
    try:
        value: object = msgspec.json.decode(line)
    except RecursionError:
        return "A line was left out: it is nested too deeply."
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = _decode_leniently(line)
    return cast("Json", value) if isinstance(value, dict) else line.decode(errors="replace")


def _decode_leniently(line: bytes) -> object:
    """Decode JSON whose strings have half of a surrogate pair, which RFC 8259 (8.2) allows; None when it is none."""
    try:
        text = json.dumps(json.loads(line.decode(errors="replace")), ensure_ascii=False)
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except (ValueError, RecursionError):
        return None


def encode_line(value: object) -> bytes:
    """A line for the CLI's input."""
    return msgspec.json.encode(value) + b"\n"


def to_json(value: Json) -> str:
    """An object as JSON text; `{}` for one that is nested too deeply."""
    try:
        return msgspec.json.encode(value).decode()
    except (RecursionError, OverflowError):
        return "{}"


# Reading of foreign JSON: a field of an unexpected type counts as missing.


def as_object(value: object) -> Json:
    """`value` if it is an object, else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Json]:
    """The objects of a list; an empty list if `value` is none."""
    return [as_object(item) for item in cast("list[object]", value)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_id(value: object) -> str | None:
    """`value` if it may be the id of a conversation or a message, which can become an argument of the CLI."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def as_count(value: object) -> int:
    """`value` if it is a whole number of a sensible size, else 0."""
    return value if type(value) is int and 0 <= value < 2**53 else 0  # a bool is an int to isinstance


def as_number(value: object) -> float | None:
    """`value` if it is a number of a sensible size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 2**53 else None
