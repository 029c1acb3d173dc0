"""Translates a terminal's output into the lines that a person would have read. Pure, streaming, in bounded memory.

This is not an emulator. It keeps one line, on which carriage returns, backspaces, tabs, erasing and horizontal cursor
movements have the same effect as in a terminal; so a progress bar leaves its last state. When a program moves to
another line in any other way than by a line feed, the line ends. (An emulator such as pyte keeps a screen, from which
scrolled lines are gone, and is about fifty times slower.) Every character counts as one column wide.

Control sequences are those of ECMA-48 §5.4 and §8.3; the strings of OSC, DCS, SOS, PM and APC are left out.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_LINE = 8192
"""A longer line is returned in parts of this many characters."""
MAX_STRING = 64 * 1024
"""A longer control string, in bytes, is taken for one without an end."""
_SLICE = 2048

_TOKEN = re.compile(
    rb"(?P<text>[^\x00-\x1f\x7f]+)"
    rb"|\x1b\[(?P<csi>[0-?]*)[ -/]*(?P<final>[@-~])"
    rb"|\x1b(?P<string>[]PX^_])"
    rb"|\x1b(?P<escape>[ -/]*[0-OQ-WYZ\\`-~])"
    rb"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
)
_UNFINISHED = re.compile(rb"\x1b(\[[0-?]*[ -/]*|[ -/]*)")
_MAX_SEQUENCE = 256
_STRING_END = re.compile(rb"[\x07\x18\x1a]|\x1b\\|(?=\x1b[^\\])")
_C1 = re.compile("[\x80-\x9f]")
_TAB = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or a part of one that is very long.

    `start` is the offset of its first byte. `ended` is false for a part that the next part continues. `moved` is true
    when the line ended because the cursor was moved elsewhere, as full-screen programs do.
    """

    start: int
    text: str
    ended: bool = True
    moved: bool = False


class PlainText:
    """Translates a stream from `offset` on, which begins a line."""

    def __init__(self, offset: int = 0) -> None:
        self._text = ""
        self._column = 0
        self._pending = b""
        self._string: int | None = None  # bytes of a control string so far
        self._offset = offset
        self._line_start = offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def line_start(self) -> int:
        """The offset of the unfinished line. A new PlainText that starts there loses nothing."""
        return self._line_start

    def feed(self, data: bytes) -> Iterator[Line]:
        """Take the next bytes; return the lines that end in them."""
        data = self._pending + data
        self._offset -= len(self._pending)
        self._pending = b""
        place = 0
        while place < len(data):
            if self._string is not None:
                if data[place:] == b"\x1b":
                    break  # perhaps the first half of its end
                place = self._skip_string(data, place)
                continue
            token = _TOKEN.match(data, place)
            if token is None:
                unfinished = _UNFINISHED.match(data, place)
                if unfinished is not None and unfinished.end() == len(data) and len(data) - place <= _MAX_SEQUENCE:
                    break
                place += 1  # an ESC that begins no sequence
                continue
            yield from self._take(token, self._offset + token.end())
            place = token.end()
        self._pending = data[place:]
        self._offset += len(data)

    def rest(self) -> Line | None:
        """The unfinished line; None when it is empty. Changes nothing."""
        text = (self._text + self._undecoded()).rstrip(" ")
        return Line(self._line_start, text, ended=False) if text else None

    def _take(self, token: re.Match[bytes], after: int) -> Iterator[Line]:
        kind = token.lastgroup
        if kind == "text":
            yield from self._write(token["text"], self._offset + token.start())
            return
        self._put(self._decoder.decode(b"", final=True))
        if kind == "control":
            yield from self._control(token["control"], after)
        elif kind == "final":
            yield from self._sequence(token["csi"], token["final"], after)
        elif kind == "string":
            self._string = 0
        elif token["escape"] in (b"c", b"D", b"E", b"M"):  # RIS, IND, NEL, RI
            yield from self._move(after)

    def _write(self, data: bytes, offset: int) -> Iterator[Line]:
        for first in range(0, len(data), _SLICE):
            part = data[first : first + _SLICE]
            self._put(_C1.sub("", self._decoder.decode(part)))
            if len(self._text) >= MAX_LINE:
                after = offset + first + len(part) - len(self._decoder.getstate()[0])
                yield self._end_line(after, ended=False)

    def _put(self, text: str) -> None:
        if not text:
            return
        if self._column > len(self._text):
            self._text = self._text.ljust(self._column)
        after = self._column + len(text)
        self._text = self._text[: self._column] + text + self._text[after:]
        self._column = after

    def _control(self, control: bytes, after: int) -> Iterator[Line]:
        match control:
            case b"\n" | b"\x0b" | b"\x0c":
                yield self._end_line(after)
            case b"\r":
                self._column = 0
            case b"\b":
                self._column = max(0, self._column - 1)
            case b"\t":
                self._to((self._column // _TAB + 1) * _TAB)
            case _:
                pass  # bells, shifts and similar characters show nothing

    def _sequence(self, parameters: bytes, final: bytes, after: int) -> Iterator[Line]:
        count = _number(parameters)
        at = self._column
        match final:
            case b"C" | b"a":
                self._to(at + max(1, count))
            case b"D":
                self._to(at - max(1, count))
            case b"G" | b"`":
                self._to(count - 1)
            case b"K" | b"J" if count == 0:
                self._text = self._text[:at]
            case b"K":
                self._text = "" if count == 2 else " " * min(at + 1, len(self._text)) + self._text[at + 1 :]
            case b"P":
                self._text = self._text[:at] + self._text[at + max(1, count) :]
            case b"X":
                gone = min(max(1, count), max(0, len(self._text) - at))
                self._text = self._text[:at] + " " * gone + self._text[at + gone :]
            case b"@" if at < len(self._text):
                self._text = (self._text[:at] + " " * min(max(1, count), MAX_LINE) + self._text[at:])[:MAX_LINE]
            case b"A" | b"B" | b"E" | b"F" | b"H" | b"f" | b"d" | b"e" | b"J" | b"S" | b"T" | b"L" | b"M" | b"r":
                yield from self._move(after)
            case b"h" | b"l" if b"1049" in parameters or b"47" in parameters:
                yield from self._move(after)
            case _:
                pass  # colours, modes and queries show nothing

    def _to(self, column: int) -> None:
        self._column = min(max(0, column), MAX_LINE - 1)

    def _move(self, after: int) -> Iterator[Line]:
        if self._text.strip(" "):
            yield self._end_line(after, moved=True)
        else:
            self._text, self._column, self._line_start = "", 0, after

    def _end_line(self, after: int, *, ended: bool = True, moved: bool = False) -> Line:
        line = Line(self._line_start, self._text.rstrip(" ") if ended else self._text, ended, moved)
        self._text, self._column, self._line_start = "", 0, after
        return line

    def _skip_string(self, data: bytes, place: int) -> int:
        assert self._string is not None
        end = _STRING_END.search(data, place)
        if end is not None:
            self._string = None
            return end.end()
        upto = len(data) - 1 if data.endswith(b"\x1b") else len(data)
        self._string += upto - place
        if self._string > MAX_STRING:
            self._string = None
        return upto

    def _undecoded(self) -> str:
        return self._decoder.getstate()[0].decode("utf-8", "replace")


def _number(parameters: bytes) -> int:
    first = parameters.lstrip(b"?>=<").split(b";")[0]
    return min(int(first), 1 << 16) if first.isdigit() and len(first) < 9 else 0
