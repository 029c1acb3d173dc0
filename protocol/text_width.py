"""The columns that text takes in a terminal, by its graphemes: what a person sees as one character has one cell or two.

Widths and graphemes are those of the package `wcwidth`, of Unicode 15 and later: an emoji with a modifier, a variation
selector or joined ones, a flag, and a letter with its marks are one grapheme each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_GRAPHEME = 32
"""Characters of a grapheme; further ones are left out, so that a flood of marks stays in one cell."""

_SIMPLE = re.compile("[ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0373\u0386-\u03ff\u0400-\u0482\u2500-\u259f\ufffd]*")
"""Characters that take one column each and join no other: Latin, Greek, Cyrillic, boxes, and the one that stands for
bytes that are no text."""


def is_simple(text: str) -> bool:
    """Whether each character of the text takes one column, and none joins another."""
    return _SIMPLE.fullmatch(text) is not None


def graphemes(text: str) -> Iterator[tuple[str, int]]:
    """The graphemes of the text, each with its columns: 0 (a mark without a letter), 1 (also a control character), or
    2."""
    from wcwidth import iter_graphemes, wcswidth  # its tables slow the start of programs that only rarely need them

    for grapheme in iter_graphemes(text):
        kept = grapheme[:MAX_GRAPHEME]
        width = wcswidth(kept)
        yield kept, min(2, width) if width >= 0 else 1


def columns(text: str) -> int:
    """How many columns the text takes."""
    return len(text) if is_simple(text) else sum(width for _, width in graphemes(text))


def cut(text: str, limit: int) -> str:
    """The first graphemes of the text that fit into so many columns."""
    if is_simple(text):
        return text[:limit]
    from wcwidth import iter_graphemes

    taken, end = 0, 0
    for grapheme in iter_graphemes(text):
        taken += columns(grapheme)
        if taken > limit:
            break
        end += len(grapheme)
    return text[:end]
