"""Terminal bytes that are safe on a person's own terminal: they draw, ask it nothing, and leave its settings alone.

The agent answers a program's queries itself, once. A terminal that shows the same bytes would answer again, and its
answer would be typed into the program. The clipboard, the title and the palette are the person's own.
"""

from __future__ import annotations

import re

LONGEST_SEQUENCE = 4096
"""An escape sequence that is longer is dropped up to here."""
_SEQUENCE = re.compile(
    rb"""\x05                                           # ENQ
    | \x1b\[ (?P<private>[<-?]?) [0-?]* (?P<between>[ -/]*) (?P<final>[@-~])
    | \x1b\] (?P<system>[^\x07\x1b]*) (?:\x07 | \x1b\\)
    | \x1b[PX^_] [^\x1b]* (?:\x1b\\)
    | \x1b[ -/]* (?P<plain>[0-OQ-WYZ`-~])""",
    re.VERBOSE,
)
_REPORTS = frozenset(b"ncxt")
"""DSR, DA, DECREQTPARM, and what asks for or changes the window."""


class PassiveOutput:
    """The filter of one stream. It holds back a sequence whose end has not come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes to write to the person's terminal now."""
        data = self._rest + data
        passed = bytearray()
        place = 0
        while (at := _next(data, place)) >= 0:
            passed += data[place:at]
            found = _SEQUENCE.match(data, at)
            if found is not None:
                if _draws(found):
                    passed += found[0]
                place = found.end()
            elif len(data) - at < LONGEST_SEQUENCE and _may_go_on(data, at):
                self._rest = data[at:]
                return bytes(passed)
            else:
                place = at + 1  # no sequence: without its first byte it is text
        self._rest = b""
        return bytes(passed + data[place:])


def _next(data: bytes, start: int) -> int:
    """The place of the next byte that begins a sequence; -1 if there is none."""
    places = [place for place in (data.find(b"\x1b", start), data.find(b"\x05", start)) if place >= 0]
    return min(places, default=-1)


_BEGINNING = re.compile(rb"\x1b(?:[ -/]*|\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?)\Z")


def _may_go_on(data: bytes, at: int) -> bool:
    return _BEGINNING.match(data, at) is not None


def _draws(found: re.Match[bytes]) -> bool:
    if (plain := found["plain"]) is not None:
        return plain != b"Z"  # DECID
    if (final := found["final"]) is not None:
        if final[0] in _REPORTS or (found["between"].endswith(b"$") and final == b"p"):
            return False
        private = found["private"]
        if final == b"q" and private == b">":  # XTVERSION
            return False
        # The keyboard protocols of kitty and xterm: the agent's terminal has none.
        return not (private and final in (b"u", b"m"))
    system = found["system"]
    return system is not None and system.startswith(b"8;")  # links
