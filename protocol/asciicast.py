"""Terminal recordings in asciinema's formats, asciicast v2 and v3. Pure: bytes and times in, lines of a file out.

Newline-delimited JSON (https://docs.asciinema.org/manual/asciicast/v3/ and …/v2/): a header, then events
`[seconds, code, data]`. In v2 seconds count from the beginning, in v3 from the event before. Codes: `o` output, `r`
another size (`120x32`), `m` a marker with its label.

The formats hold output as text. A character whose bytes come in two chunks is written with the second chunk; bytes
that are not UTF-8 become U+FFFD, as in a terminal.
"""

from __future__ import annotations

import codecs
from datetime import datetime
from typing import Literal

import msgspec

Version = Literal[2, 3]
MEDIA_TYPE = "application/x-asciicast"


class Asciicast:
    """One recording; its methods return the file, piece by piece.

    Times are rounded to milliseconds from the beginning, so that the intervals of v3 do not drift. A time before that
    of the last event becomes that time.
    """

    def __init__(self, version: Version, began: datetime, columns: int, rows: int, title: str) -> None:
        self._version = version
        self._began = began
        self._size = (columns, rows)
        self._title = title
        self._last = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def head(self) -> bytes:
        """The line of the header."""
        columns, rows = self._size
        size: dict[str, object]
        if self._version == 3:
            size = {"term": {"cols": columns, "rows": rows, "type": "xterm-256color"}}
        else:
            size = {"width": columns, "height": rows, "env": {"TERM": "xterm-256color"}}
        header = {"version": self._version, **size, "timestamp": int(self._began.timestamp()), "title": self._title}
        return msgspec.json.encode(header) + b"\n"

    def output(self, at: datetime, data: bytes) -> bytes:
        """Output that came at `at`; no line while it is an incomplete character."""
        text = self._decoder.decode(data)
        return self._event(at, "o", text) if text else b""

    def resize(self, at: datetime, columns: int, rows: int) -> bytes:
        """The terminal's size from `at` on; no line if it is the same size."""
        if (columns, rows) == self._size:
            return b""
        self._size = (columns, rows)
        return self._event(at, "r", f"{columns}x{rows}")

    def marker(self, at: datetime, label: str) -> bytes:
        """A marker, to which a player can jump."""
        return self._event(at, "m", label)

    def reset(self, at: datetime) -> bytes:
        """A full reset (RIS), because the output of another stream follows."""
        return self._event(at, "o", self._decoder.decode(b"", final=True) + "\x1bc")

    def end(self) -> bytes:
        """The last line, if the output ended with an incomplete character."""
        text = self._decoder.decode(b"", final=True)
        return self._line(self._last, self._last, "o", text) if text else b""

    def _event(self, at: datetime, code: str, data: str) -> bytes:
        before = self._last
        self._last = max(before, round((at - self._began).total_seconds() * 1000))
        return self._line(self._last, before, code, data)

    def _line(self, now: int, before: int, code: str, data: str) -> bytes:
        milliseconds = now - before if self._version == 3 else now
        return msgspec.json.encode((milliseconds / 1000, code, data)) + b"\n"
