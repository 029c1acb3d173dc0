"""The last line that a program has written, found when somebody asks: meanwhile only the newest bytes are kept."""

from __future__ import annotations

import re

from onsembl.protocol.plain_text import PlainText

KEPT_BYTES = 4096
"""The last line is looked for in so many bytes: of a longer one, its end is found."""
MAX_CHARACTERS = 200
_LINE_END = re.compile(rb"[\r\n]")


class LastLine:
    """Takes a program's output, and says its last line as a person has read it.

    A progress bar counts as it is now. What a program draws on its whole screen has no lines: the line before stays.
    """

    def __init__(self) -> None:
        self._recent = b""
        self._cut = False
        self._changed = False
        self._text = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._cut = self._cut or len(self._recent) + len(data) > KEPT_BYTES
        self._recent = (self._recent + data[-KEPT_BYTES:])[-KEPT_BYTES:]
        self._changed = True

    def read(self) -> str:
        """The last line that is not empty, on one line and cut; "" as long as there is none."""
        if self._changed:
            self._changed = False
            self._text = self._found() or self._text
        return self._text

    def _found(self) -> str:
        recent = self._recent
        if self._cut and (end := _LINE_END.search(recent)) is not None:
            recent = recent[end.end() :]  # the first line may lack its beginning, and so a part of a sequence
        plain = PlainText()
        texts = [line.text for line in plain.feed(recent) if not line.moved]
        if (rest := plain.rest()) is not None:
            texts.append(rest.text)
        said = (" ".join(text.split()) for text in reversed(texts))
        return next((text for text in said if text), "")[:MAX_CHARACTERS].rstrip()
