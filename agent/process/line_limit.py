"""The longest line that a terminal collects for a program that reads line by line (canonical mode)."""

from __future__ import annotations

import sys

MAX_LINE_BYTES = 1024 if sys.platform == "darwin" else 4095
"""Without the line end. The kernel drops what is typed beyond it, silently."""
_LINE_ENDS = b"\r\n\x04"
_ERASE, _FORGETS_LINE = 0x7F, b"\x03\x15\x1a\x1c"  # backspace; Ctrl-C, Ctrl-U, Ctrl-Z and Ctrl-\


class LineLimit:
    """Counts the bytes of the line that the kernel holds until its end is typed."""

    def __init__(self) -> None:
        self._held = 0

    def accepts(self, keys: bytes, *, canonical: bool) -> bool:
        """Whether every line fits when these keys are typed; if so, they count as typed."""
        held = self._held if canonical else 0
        for key in keys if canonical else b"":
            if key in _LINE_ENDS or key in _FORGETS_LINE:
                held = 0
            elif key == _ERASE:
                held = max(0, held - 1)
            else:
                held += 1
                if held > MAX_LINE_BYTES:
                    return False
        self._held = held
        return True
