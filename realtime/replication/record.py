"""Parses the text form of a row, as PostgreSQL writes it: parentheses, commas, quotes where needed. No I/O."""

from __future__ import annotations


class BadRecord(ValueError):
    """The text is not that of a row."""


def parse_record(text: str) -> list[str | None]:
    """The values of the row. An empty field is null; a field of two quotes is the empty string. Raises BadRecord."""
    if len(text) < 2 or text[0] != "(" or text[-1] != ")":
        raise BadRecord(f"{text[:40]!r}…")
    values: list[str | None] = []
    at, end = 1, len(text) - 1
    while True:
        value, at = _field(text, at, end)
        values.append(value)
        if at == end:
            return values
        at += 1  # the comma


def _field(text: str, at: int, end: int) -> tuple[str | None, int]:
    parts: list[str] = []
    is_null = True
    quoted = False
    while at < end and (quoted or text[at] != ","):
        character = text[at]
        if character == "\\" and at + 1 < end:
            parts.append(text[at + 1])
            at += 1
        elif character == '"':
            if quoted and text[at + 1] == '"':
                parts.append('"')
                at += 1
            else:
                quoted = not quoted
        else:
            parts.append(character)
        is_null = False
        at += 1
    if quoted:
        raise BadRecord(f"{text[:40]!r}…")
    return (None if is_null else "".join(parts)), at
