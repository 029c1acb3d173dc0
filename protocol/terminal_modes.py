"""Which modes of the terminal are in force at a place of its stream, for a viewer who begins to read there.

DEC private modes (`CSI ? … h` and `l`, xterm's ctlseqs) that change what later bytes mean or what a key or the mouse
sends: the alternate screen, the cursor, bracketed paste, mouse reports; and the keypad. What a program draws is not
looked at.
"""

from __future__ import annotations

import re
from collections import deque

_ALTERNATE = (1049, 1047, 47)
_TRACKED = frozenset({*_ALTERNATE, 1, 7, 9, 25, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004})
_USUALLY_ON = frozenset({7, 25})
_KEYPAD = -1
"""Application keypad (`ESC =`), in place of a number."""
_MOST_CHANGES = 1024
"""Of a program that changes modes more often, viewers who begin early get what was in force a little later."""
_CHANGE = re.compile(rb"\x1b(?:\[\?([0-9;]{1,60})([hl])|([=>c]))")
_UNFINISHED = re.compile(rb"\x1b(?:\[(?:\?[0-9;]{0,60})?)?")
_LONGEST = 64

Change = tuple[int, dict[int, bool] | None]
"""The offset after it, and what it sets; None is a full reset."""


class TerminalModes:
    """Is fed a stream from `offset` on, before which all modes are as a terminal starts."""

    def __init__(self, offset: int = 0) -> None:
        self._end = offset
        self._before: dict[int, bool] = {}
        self._changes: deque[Change] = deque()
        self._carry = b""

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        self._end += len(data)
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if b"\x1b" not in data:
            return
        start = self._end - len(data)
        for match in _CHANGE.finditer(data):
            self._changes.append((start + match.end(), _settings(match)))
        while len(self._changes) > _MOST_CHANGES:
            _apply(self._before, self._changes.popleft()[1])
        last = data.rfind(b"\x1b", -_LONGEST)
        if last >= 0 and _UNFINISHED.fullmatch(data, last):
            self._carry = data[last:]

    def prepend(self, data: bytes, start: int) -> None:
        """What came before the first byte that was fed, from `start` on; it was fed nothing of it."""
        earlier = TerminalModes(start)
        earlier.feed(data)
        self._changes.extendleft(reversed(earlier._changes))

    def current(self) -> str:
        """What puts a terminal that starts into the modes in force after all that was fed."""
        return self.at(self._end)

    def at(self, offset: int) -> str:
        """What puts a terminal that starts into the modes in force before the byte at `offset`."""
        state = dict(self._before)
        for end, settings in self._changes:
            if end > offset:
                break
            _apply(state, settings)
        unusual = [mode for mode, on in state.items() if on != (mode in _USUALLY_ON)]
        unusual.sort(key=lambda mode: (mode not in _ALTERNATE, mode))
        return "".join("\x1b=" if mode == _KEYPAD else f"\x1b[?{mode}{'h' if state[mode] else 'l'}" for mode in unusual)


def _settings(match: re.Match[bytes]) -> dict[int, bool] | None:
    numbers, final, single = match.groups()
    if single == b"c":
        return None
    if single is not None:
        return {_KEYPAD: single == b"="}
    modes = {int(number) for number in numbers.split(b";") if number and len(number) < 6}
    return dict.fromkeys(sorted(modes & _TRACKED), final == b"h")


def _apply(state: dict[int, bool], settings: dict[int, bool] | None) -> None:
    if settings is None:
        state.clear()
    else:
        state.update(settings)
