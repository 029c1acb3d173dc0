"""Foreign text for a terminal: without control characters, measured in columns, and folded."""

from __future__ import annotations

import re

from onsembl.protocol.plain_text import PlainText
from onsembl.protocol.text_width import columns, cut

MAX_SEQUENCE = 256
"""A control sequence of more characters is none: its first character is dropped, and the rest is text."""
FOLDED_LINES = 12
FOLDED_LINE = 400
"""The most characters of a line of a tool's result."""
_READ_BYTES = 64 * 1024
"""How much of a long result is read for its first lines."""

_HIDDEN = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI (ECMA-48, 5.4)
    r"|\x1b[PX\]^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # control strings: OSC, DCS, SOS, PM, APC (5.6)
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    r"|(?P<unfinished>\x1b(?:\[[0-?]*[ -/]*|[PX\]^_][^\x07\x1b]*\x1b?|[ -/]*)\Z)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"
)


class ControlFilter:
    """Removes control characters and sequences from text that comes in pieces; line feeds and tabs stay."""

    def __init__(self) -> None:
        self._unfinished = ""

    def feed(self, text: str) -> str:
        """Filter a piece. A sequence that is not complete is kept back until the next piece."""
        text, self._unfinished = self._unfinished + text, ""
        shown: list[str] = []
        place = 0
        while (match := _HIDDEN.search(text, place)) is not None:
            shown.append(text[place : match.start()])
            place = match.end()
            if match["unfinished"] is not None:
                if len(match[0]) <= MAX_SEQUENCE:
                    self._unfinished = match[0]
                else:
                    place = match.start() + 1
        return "".join([*shown, text[place:]])


def printable(text: str) -> str:
    """`text` without control characters and sequences, so that it is safe in a terminal; line feeds and tabs stay. Lone
    surrogates, as in the name of a file that is not UTF-8, are left out, too: they have no encoding."""
    return ControlFilter().feed(text.replace("\r\n", "\n"))


def folded(text: str, lines: int = FOLDED_LINES) -> list[str]:
    """The first lines of a text as a person would have read them in a terminal, and a line that counts the others."""
    shown, more = first_lines(text, lines)
    return [*shown, more_lines(more)] if more else shown


def more_lines(count: int) -> str:
    """A line in the place of so many others."""
    return f"… {count:,} more {'line' if count == 1 else 'lines'}"


def first_lines(text: str, lines: int) -> tuple[list[str], int]:
    """The first lines of a text, and how many more there are. A progress bar leaves its last state."""
    data = text.rstrip().encode(errors="replace")
    plain = PlainText()
    read = [line.text for line in plain.feed(data[:_READ_BYTES].replace(b"\r\n", b"\n") + b"\n")]
    more = max(0, len(read) - lines) + data.count(b"\n", _READ_BYTES)
    return [shortened(line, FOLDED_LINE) for line in read[:lines]], more


def shortened(text: str, limit: int) -> str:
    """The text, cut to so many columns with an ellipsis."""
    return text if columns(text) <= limit else cut(text, limit - 1) + "…"
