"""Terminal recordings as asciinema plays them: asciicast v2 and v3. Pure: bytes and times in, lines of a file out.

Newline-delimited JSON (https://docs.asciinema.org/manual/asciicast/v3/ and …/v2/): a header, then events
`[seconds, code, data]`. In v2 seconds count from the beginning, in v3 from the event before. Codes: `o` output, `r`
another size (`120x32`), `m` a marker with its label.

Output has to be text there. A character whose bytes come in two chunks is written with the second one; bytes that are
no UTF-8 become U+FFFD, as in a terminal.
"""

from __future__ import annotations

import codecs
from datetime import datetime
from typing import Literal

import msgspec

Version = Literal[2, 3]
MEDIA_TYPE = "application/x-asciicast"


class Asciicast:
    """One recording; what the methods answer is the file, piece by piece.

    Times are rounded to milliseconds from the beginning, so that the intervals of v3 add up to no drift. One that lies
    before the event before it counts as that one's.
    """

    def __init__(self, version: Version, began: datetime, columns: int, rows: int, title: str) -> None:
        self._version = version
        self._began = began
        self._size = (columns, rows)
        self._title = title
        self._last = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def head(self) -> bytes:
        """The header's line."""
        columns, rows = self._size
        size: dict[str, object]
        if self._version == 3:
            size = {"term": {"cols": columns, "rows": rows, "type": "xterm-256color"}}
        else:
            size = {"width": columns, "height": rows, "env": {"TERM": "xterm-256color"}}
        header = {"version": self._version, **size, "timestamp": int(self._began.timestamp()), "title": self._title}
        return msgspec.json.encode(header) + b"\n"

    def output(self, at: datetime, data: bytes) -> bytes:
        """Bytes of the terminal that came at `at`; nothing while they are half a character."""
        text = self._decoder.decode(data)
        return self._event(at, "o", text) if text else b""

    def resize(self, at: datetime, columns: int, rows: int) -> bytes:
        """From here on the terminal has this size; nothing when it had it."""
        if (columns, rows) == self._size:
            return b""
        self._size = (columns, rows)
        return self._event(at, "r", f"{columns}x{rows}")

    def marker(self, at: datetime, label: str) -> bytes:
        """A place to jump to."""
        return self._event(at, "m", label)

    def reset(self, at: datetime) -> bytes:
        """Another terminal's output follows: as after a full reset (RIS)."""
        return self._event(at, "o", self._decoder.decode(b"", final=True) + "\x1bc")

    def end(self) -> bytes:
        """What is left: half a character that nothing followed."""
        text = self._decoder.decode(b"", final=True)
        return self._line(self._last, self._last, "o", text) if text else b""

    def _event(self, at: datetime, code: str, data: str) -> bytes:
        before = self._last
        self._last = max(before, round((at - self._began).total_seconds() * 1000))
        return self._line(self._last, before, code, data)

    def _line(self, now: int, before: int, code: str, data: str) -> bytes:
        milliseconds = now - before if self._version == 3 else now
        return msgspec.json.encode((milliseconds / 1000, code, data)) + b"\n"
