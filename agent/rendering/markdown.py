"""Writes Markdown for a terminal, as it comes: wrapped between words, with headings, lists, emphasis and code. No I/O.

A streaming reader cannot know a block before its end, so this is a subset: what can be known from a line's first word
(headings, lists, quotes, fences, tables) and from a word (strong emphasis, code spans). The rest is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from onsembl.agent.rendering.text import ControlFilter
from onsembl.protocol.text_width import columns

RESET = "\x1b[0m"
_BOLD, _CODE, _DIM = "1", "36", "2"
_MIN_WIDTH = 20
_MAX_INDENT = 24
MAX_WORD = 1000
"""A longer word, in characters, is shown in parts as it comes: a file in base64 is one word."""
_BULLET = re.compile(r"[-*+]\Z")
_NUMBER = re.compile(r"\d{1,4}[.)]\Z")
_HEADING = re.compile(r"#{1,6}\Z")
_RULE = re.compile(r"(?:-{3,}|\*{3,}|_{3,})\Z")
_FENCE = re.compile(r"(`{3,}|~{3,})")
_MARKER = re.compile(r"(\*\*|`+)")
_OPENS = re.compile(r"[\W_]*\Z")
"""Before an opening `**` a word has only punctuation: so 2**3 is not emphasis."""


class MarkdownWriter:
    """`feed` takes pieces of a text and returns what to show; `end` finishes the last line.

    `width` gives the terminal's columns, which may change. `style` is the SGR parameters of the whole text.
    """

    def __init__(self, width: Callable[[], int], indent: str = "", style: str = "") -> None:
        self._width = width
        self._indent = indent
        self._style = style
        self._filter = ControlFilter()
        self._out: list[str] = []
        self._fence: str | None = None
        """The characters that opened a block of code, which the same ones close."""
        self._begin_line()

    def feed(self, text: str) -> str:
        """Write a piece of text. The last word is kept back until it is known to be complete."""
        for part in re.split(r"([ \t]+|\n)", self._filter.feed(text)):
            if part == "\n":
                self._end_word()
                self._end_line()
            elif part and not part.strip():
                self._space(part[:MAX_WORD])
            else:
                for at in range(0, len(part), MAX_WORD):
                    self._add_to_word(part[at : at + MAX_WORD])
        return self._take()

    def end(self) -> str:
        """Write the last word, and end the line if it has text."""
        self._end_word()
        if self._begun:
            self._end_line()
        return self._take()

    @property
    def open_line(self) -> bool:
        """Whether the present line has text."""
        return self._begun or bool(self._word)

    def _take(self) -> str:
        shown, self._out = "".join(self._out), []
        return shown

    def _begin_line(self) -> None:
        self._word = ""
        self._in_word = False
        """Whether what is shown ends in a part of a long word."""
        self._leading = ""
        self._begun = False
        self._verbatim = self._fence is not None
        self._column = 0
        self._hanging = self._indent
        self._pending_space = ""
        self._heading = self._bold = False
        self._code = ""

    def _end_line(self) -> None:
        if self._styles():
            self._out.append(RESET)
        self._out.append("\n")
        self._begin_line()

    def _space(self, space: str) -> None:
        if not self._begun and not self._word:
            self._leading = (self._leading + space)[:MAX_WORD]
            return
        self._end_word()
        self._in_word = False
        self._pending_space = (self._pending_space + space)[:MAX_WORD] if self._verbatim else " "

    def _add_to_word(self, part: str) -> None:
        self._word += part
        if len(self._word) > MAX_WORD:
            self._word, rest = self._word[:MAX_WORD], self._word[MAX_WORD:]
            self._end_word()
            self._word, self._in_word = rest, True

    def _end_word(self) -> None:
        word, self._word = self._word, ""
        if not word:
            return
        if self._begun:
            self._write(word)
        else:
            self._first_word(word)

    def _first_word(self, word: str) -> None:
        """Begin a line, whose kind its first word tells."""
        leading = self._leading.expandtabs(4)[:_MAX_INDENT]
        fence = _FENCE.match(word)
        if self._fence is not None:
            if fence is not None and word == fence[1] and word.startswith(self._fence):
                self._fence = None
                self._begin(self._indent, "")
                return
            self._begin(self._indent + self._leading, "")
            self._write(word)
            return
        if fence is not None and "`" not in word[len(fence[1]) :]:
            self._fence, self._verbatim = fence[1], True
            self._begin(self._indent, "")
            return
        indent = self._indent + leading
        if _HEADING.match(word):
            self._heading = True
            self._begin(self._indent, "")
        elif _RULE.match(word):
            self._begin(self._indent, "─" * min(40, self._room(self._indent)))
        elif _BULLET.match(word):
            self._hanging = indent + "  "
            self._begin(indent, "•")
        elif _NUMBER.match(word):
            self._hanging = indent + " " * (len(word) + 1)
            self._begin(indent, word)
        elif word == ">":
            self._hanging = self._indent + "│ "
            self._begin(self._indent, "│")
        else:
            self._hanging = indent
            self._verbatim = word.startswith("|")
            self._begin(indent, "")
            self._write(word)

    def _room(self, indent: str) -> int:
        return max(_MIN_WIDTH, self._width() - columns(indent))

    def _begin(self, indent: str, mark: str) -> None:
        self._begun = True
        self._out.append(indent + self._sgr() + mark)
        self._column = columns(indent) + columns(mark)
        self._pending_space = ""
        self._fresh = not mark

    def _write(self, word: str) -> None:
        """Write a word after a space, or on a new line if there is no room for it."""
        pieces = [word] if self._verbatim else _MARKER.split(word)
        text = "".join(pieces[::2]) if not self._verbatim else word
        at_start, self._fresh = self._fresh or self._in_word, False
        space = "" if at_start else self._pending_space or " "
        if not self._verbatim and not at_start and self._column + len(space) + columns(text) > self._width():
            if self._styles():
                self._out.append(RESET)
            self._out.append("\n" + self._hanging + self._sgr())
            self._column = columns(self._hanging)
            space = ""
        self._pending_space = ""
        self._out.append(space)
        self._column += len(space)
        may_open = not self._in_word
        for place, piece in enumerate(pieces):
            if place % 2 == 0:
                may_open = may_open and _OPENS.match(piece) is not None
            elif self._toggle(piece, may_open=may_open):
                continue
            self._out.append(piece)
            self._column += columns(piece)

    def _toggle(self, marker: str, *, may_open: bool) -> bool:
        """Begin or end emphasis or code at a marker; return False if it is text."""
        if self._code:
            if marker != self._code:
                return False
            self._code = ""
        elif marker.startswith("`"):
            self._code = marker
        elif self._bold or may_open:
            self._bold = not self._bold
        else:
            return False
        self._out.append(RESET + self._sgr())
        return True

    def _styles(self) -> str:
        styles = [self._style, _BOLD if self._heading or self._bold else "", _CODE if self._code else ""]
        return ";".join(style for style in styles if style)

    def _sgr(self) -> str:
        styles = self._styles()
        return f"\x1b[{styles}m" if styles else ""
