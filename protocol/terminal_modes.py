"""The terminal modes in force at an offset of a stream, for a viewer that begins to read there.

These are the DEC private modes (`CSI ? … h` and `l`, xterm's ctlseqs) that change the meaning of later bytes, of keys
or of the mouse: the alternate screen, the cursor, bracketed paste, mouse reports; and the keypad. The text on the
screen is not tracked.
"""

from __future__ import annotations

import re
from collections import deque

_ALTERNATE = (1049, 1047, 47)
_TRACKED = frozenset({*_ALTERNATE, 1, 7, 9, 25, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004})
_ON_BY_DEFAULT = frozenset({7, 25})
_KEYPAD = -1
"""The application keypad (`ESC =`), which has no mode number."""
_MAX_CHANGES = 1024
"""If a stream has more changes, viewers at early offsets get modes that were in force a little later."""
_CHANGE = re.compile(rb"\x1b(?:\[\?([0-9;]{1,60})([hl])|([=>c]))")
_UNFINISHED = re.compile(rb"\x1b(?:\[(?:\?[0-9;]{0,60})?)?")
_LONGEST = 64

Change = tuple[int, dict[int, bool] | None]
"""The offset after a change, and the modes that it sets; None is a full reset."""


class TerminalModes:
    """Tracks the modes of a stream from `offset` on, where a terminal has its initial modes."""

    def __init__(self, offset: int = 0) -> None:
        self._end = offset
        self._before: dict[int, bool] = {}
        self._changes: deque[Change] = deque()
        self._carry = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._end += len(data)
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if b"\x1b" not in data:
            return
        start = self._end - len(data)
        for match in _CHANGE.finditer(data):
            self._changes.append((start + match.end(), _settings(match)))
        while len(self._changes) > _MAX_CHANGES:
            _apply(self._before, self._changes.popleft()[1])
        last = data.rfind(b"\x1b", -_LONGEST)
        if last >= 0 and _UNFINISHED.fullmatch(data, last):
            self._carry = data[last:]

    def prepend(self, data: bytes, start: int) -> None:
        """Take the bytes just before the first one that was fed; they begin at `start`."""
        earlier = TerminalModes(start)
        earlier.feed(data)
        self._changes.extendleft(reversed(earlier._changes))

    def current(self) -> str:
        """The control sequences that set the modes in force after the last byte, in a terminal with initial modes."""
        return self.at(self._end)

    def at(self, offset: int) -> str:
        """The control sequences that set the modes in force before the byte at `offset`."""
        state = dict(self._before)
        for end, settings in self._changes:
            if end > offset:
                break
            _apply(state, settings)
        unusual = [mode for mode, on in state.items() if on != (mode in _ON_BY_DEFAULT)]
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
