"""PostgreSQL's text form of a value as the JSON that `to_jsonb` makes of it, by type name."""

from __future__ import annotations

import re
from typing import Any

import orjson

_INTEGERS = frozenset({"int2", "int4", "int8", "oid"})
_DECIMALS = frozenset({"float4", "float8", "numeric"})
_SHORT_ZONE = re.compile(r"([+-]\d\d)$")


def json_value(text: str | None, type_name: str) -> Any:
    """The value of a column whose `pg_type.typname` is `type_name`."""
    if text is None:
        return None
    if type_name.startswith("_"):
        return _array(text, type_name[1:])
    if type_name in _INTEGERS:
        return int(text)
    if type_name in _DECIMALS:
        return text if text in ("NaN", "Infinity", "-Infinity") else _number(text)
    if type_name == "bool":
        return text == "t"
    if type_name in ("json", "jsonb"):
        return orjson.loads(text)
    if type_name == "timestamptz":
        return _SHORT_ZONE.sub(r"\1:00", text.replace(" ", "T"))
    if type_name == "timestamp":
        return text.replace(" ", "T")
    return text


def _number(text: str) -> int | float:
    return float(text) if any(c in text for c in ".eE") else int(text)


_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)')


def _array(text: str, type_name: str) -> list[Any]:
    """An array in curly braces; its items may be arrays."""
    stack: list[list[Any]] = [[]]
    at = 0
    while at < len(text):
        if text[at] == "{":
            stack.append([])
            at += 1
        elif text[at] == "}":
            done = stack.pop()
            stack[-1].append(done)
            at += 1
        elif text[at] == ",":
            at += 1
        else:
            found = _ITEM.match(text, at)
            if found is None:
                raise ValueError(f"not an array: {text!r}")
            quoted, plain = found.groups()
            if quoted is not None:
                stack[-1].append(json_value(re.sub(r"\\(.)", r"\1", quoted), type_name))
            else:
                stack[-1].append(None if plain == "NULL" else json_value(plain, type_name))
            at = found.end()
    return stack[0][0]
