"""Writes rows as JSON, whatever they hold: a value that JSON cannot hold is shown as an error in its place.

Rows are written as they are, fast. Only when that fails are they walked, and their unreadable values replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, cast
from uuid import UUID

import msgspec
import orjson
from msgspec import UNSET

from onsembl.sql.readable_values import UnreadableTime, UnreadableValue

MAX_DEPTH = 200
"""The depth up to which values are shown; orjson writes at most 254."""
OnFault = Callable[[str], None]


def to_json(value: object, on_fault: OnFault) -> bytes:
    """The JSON of rows, lists and structs. `on_fault` is called with a text for each value that cannot be shown: where
    it is, and what is wrong with it."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        return orjson.dumps(_Repair(on_fault).readable(value, "", "", 0))


def _plain(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, builtin_types=(UUID,))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _fields(struct: msgspec.Struct) -> object:
    try:
        return _plain(struct)
    except (TypeError, ValueError, RecursionError):  # one of them has no form
        fields = {name: getattr(struct, name) for name in struct.__struct_fields__}
        return {name: value for name, value in fields.items() if value is not UNSET}


class _Repair:
    """Copies a value, with an error text in place of each part that JSON cannot hold."""

    def __init__(self, on_fault: OnFault) -> None:
        self._on_fault = on_fault

    def readable(self, value: object, place: str, row: str, depth: int) -> object:
        """The value at `place` of a row; `row` names the row by its id or name."""
        match value:
            case UnreadableValue() | UnreadableTime():
                return self._fault(value.fault, place, row)
            case None | bool() | UUID() | date():
                return value
            case int():
                fits = -(2**63) <= value < 2**64
                return value if fits else self._fault("an integer beyond 64 bits", place, row)
            case float():
                return value if math.isfinite(value) else self._fault(f"the number {value}", place, row)
            case str():
                return self._text(value, place, row)
            case msgspec.Struct():
                return self.readable(_fields(value), place, row, depth)
            case Mapping() | list() | tuple() if depth > MAX_DEPTH:
                return self._fault("it is nested too deep", place, row)
            case Mapping():
                return self._mapping(cast("Mapping[object, object]", value), place, row, depth)
            case list() | tuple():
                items = cast("Sequence[object]", value)
                return [self.readable(item, f"{place}[]", row, depth + 1) for item in items]
            case _:
                return self._fault(f"a {type(value).__name__}", place, row)

    def _mapping(self, value: Mapping[object, object], place: str, row: str, depth: int) -> dict[str, object]:
        identity = value.get("id", value.get("name"))
        if isinstance(identity, str | int | UUID):
            row, place = str(identity), ""
        inner = f"{place}." if place else ""
        return {
            str(self._text(str(name), f"{inner}(name)", row)): self.readable(item, f"{inner}{name}", row, depth + 1)
            for name, item in value.items()
        }

    def _text(self, value: str, place: str, row: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return self._fault("a text with half a character", place, row)
        return value

    def _fault(self, fault: str, place: str, row: str) -> str:
        shown: Any = place.encode(errors="replace").decode()[:100]
        self._on_fault(f"{shown or 'a value'} of {row[:100] or 'a row'}: {fault[:200]}")
        return f"unreadable: {fault[:200]}"
