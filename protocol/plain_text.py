"""Translates a terminal's output into the lines that a person would have read. Pure, streaming, in bounded memory.

This is not an emulator. It keeps one line, on which carriage returns, backspaces, tabs, erasing and horizontal cursor
movements have the same effect as in a terminal; so a progress bar leaves its last state. When a program moves to
another line in any other way than by a line feed, the line ends. (An emulator such as pyte keeps a screen, from which
scrolled lines are gone, and is about fifty times slower.) Graphemes take the columns that `text_width` gives them.

Control sequences are those of ECMA-48 §5.4 and §8.3; the strings of OSC, DCS, SOS, PM and APC are left out.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from onsembl.protocol.text_width import MAX_GRAPHEME, graphemes, is_simple

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
_FILLER = "\0"
"""The second column of a wide grapheme."""
_FIRST_STAND_IN, _LAST_STAND_IN = 0xD800, 0xDFFF
"""Surrogates, which no decoded text has: each stands for a grapheme of several characters in the line."""
_STAND_IN = re.compile("[\ud800-\udfff]")


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
        self._text = ""  # a character for each column, with fillers and stand-ins
        self._column = 0
        self._stand_ins: dict[str, str] = {}
        self._may_join = False  # the text to come may belong to the grapheme before the cursor
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
        text = (self._shown() + self._undecoded()).rstrip(" ")
        return Line(self._line_start, text, ended=False) if text else None

    def _take(self, token: re.Match[bytes], after: int) -> Iterator[Line]:
        kind = token.lastgroup
        if kind == "text":
            yield from self._write(token["text"], self._offset + token.start())
            return
        self._put(self._decoder.decode(b"", final=True))
        if kind != "final" or token["final"] != b"m":  # a colour moves no cursor
            self._may_join = False
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
        if not is_simple(text) or (self._may_join and not is_simple(self._text[self._column - 1])):
            text = self._cells(text)
        self._replace(self._column, self._column + len(text), text)
        self._column += len(text)
        self._may_join = self._column > 0

    def _cells(self, text: str) -> str:
        """The text with a character for each column. It begins with the grapheme before the cursor if that may go
        on."""
        if self._may_join:
            self._column -= 2 if self._text[self._column - 1] == _FILLER else 1
            text = self._grapheme(self._text[self._column]) + text
        cells: list[str] = []
        for grapheme, width in graphemes(text):
            if width > 0:
                cells.append(grapheme)
                cells += [_FILLER] * (width - 1)
            elif cells:
                at = len(cells) - (2 if cells[-1] == _FILLER else 1)
                cells[at] = (cells[at] + grapheme)[:MAX_GRAPHEME]
        return "".join(map(self._stand_in, cells))

    def _stand_in(self, grapheme: str) -> str:
        if len(grapheme) == 1:
            return grapheme
        known = self._stand_ins.get(grapheme)
        if known is None:
            if len(self._stand_ins) > _LAST_STAND_IN - _FIRST_STAND_IN:
                return grapheme[0]
            known = self._stand_ins[grapheme] = chr(_FIRST_STAND_IN + len(self._stand_ins))
        return known

    def _grapheme(self, cell: str) -> str:
        if not "\ud800" <= cell <= "\udfff":
            return cell
        return list(self._stand_ins)[ord(cell) - _FIRST_STAND_IN]

    def _shown(self) -> str:
        """The line as a person reads it."""
        text = self._text.replace(_FILLER, "")
        return _STAND_IN.sub(lambda found: self._grapheme(found[0]), text) if self._stand_ins else text

    def _replace(self, start: int, end: int, cells: str) -> None:
        """Put `cells` in the place of others. Of a wide grapheme of which one half goes, the other becomes blank."""
        before, after = self._text[:start], self._text[end:]
        if before and self._text[start : start + 1] == _FILLER:
            before = before[:-1] + " "
        if after.startswith(_FILLER):
            after = " " + after[1:]
        self._text = before + cells + after

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
                self._replace(at, len(self._text), "")
            case b"K" if count == 2:
                self._text = ""
            case b"K":
                self._replace(0, at + 1, " " * min(at + 1, len(self._text)))
            case b"P":
                self._replace(at, at + max(1, count), "")
            case b"X":
                gone = min(max(1, count), max(0, len(self._text) - at))
                self._replace(at, at + gone, " " * gone)
            case b"@" if at < len(self._text):
                self._replace(at, at, " " * min(max(1, count), MAX_LINE))
                self._replace(MAX_LINE, len(self._text), "")
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
            self._begin_line(after)

    def _end_line(self, after: int, *, ended: bool = True, moved: bool = False) -> Line:
        text = self._shown()
        line = Line(self._line_start, text.rstrip(" ") if ended else text, ended, moved)
        self._begin_line(after)
        return line

    def _begin_line(self, after: int) -> None:
        self._text, self._column, self._line_start = "", 0, after
        self._stand_ins.clear()
        self._may_join = False

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
