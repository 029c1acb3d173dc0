"""Converts values from PostgreSQL's text form to JSON as Supabase Realtime does, by type name. No I/O.

The JSON is that of `to_jsonb`, with two exceptions that wal2json makes outside of arrays: bytes are hexadecimal digits
without `\\x`, and the numbers NaN, Infinity and -Infinity are null.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

_SPACED = re.compile(r"^(\d+-\d\d-\d\d) ")
_SHORT_ZONE = re.compile(r"([+-]\d\d)(?= BC$|$)")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-]?[0-9]+)?")
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_NUMBERS = ("numeric", "float4", "float8")


def _integer(text: str) -> bytes:
    return text.encode() if _INTEGER.fullmatch(text) else _string(text)


def _decimal(text: str) -> bytes:
    return text.encode() if _DECIMAL.fullmatch(text) else _string(text)


def _boolean(text: str) -> bytes:
    return {"t": b"true", "f": b"false"}.get(text) or _string(text)


def _plain(text: str) -> bytes:
    return text.encode()


def _string(text: str) -> bytes:
    return orjson.dumps(text)


def _timestamp(text: str) -> bytes:
    return _string(_SPACED.sub(r"\1T", text))


def _timestamptz(text: str) -> bytes:
    return _string(_SHORT_ZONE.sub(r"\1:00", _SPACED.sub(r"\1T", text)))


_CONVERTERS: dict[str, Callable[[str], bytes]] = {
    "int2": _integer,
    "int4": _integer,
    "int8": _integer,
    "numeric": _decimal,
    "float4": _decimal,
    "float8": _decimal,
    "bool": _boolean,
    "jsonb": _plain,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "uuid", "date", "time", "interval", "bytea"), _string),
}


def converts(type_name: str) -> bool:
    """Whether values of the type (`pg_type.typname`) can be converted here. The database converts other types."""
    return type_name.removeprefix("_") in _CONVERTERS


def json_text(text: str | None, type_name: str) -> bytes:
    """The JSON of a value whose type `converts`. Numbers keep all their digits."""
    if text is None or (type_name in _NUMBERS and text in _NOT_FINITE):
        return b"null"
    if type_name == "bytea":
        return _string(text.removeprefix("\\x"))
    if type_name.startswith("_"):
        return _array(text, _CONVERTERS[type_name[1:]])
    return _CONVERTERS[type_name](text)


_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', re.DOTALL)


def _array(text: str, convert: Callable[[str], bytes]) -> bytes:
    """The JSON of an array in curly braces, whose items may be arrays. The bounds in `[0:1]={1,2}` are dropped."""
    if text.startswith("["):
        text = text.partition("=")[2]
    parts: list[bytes] = []
    at = 0
    while at < len(text):
        match text[at]:
            case "{":
                parts.append(b"[")
            case "}":
                parts.append(b"]")
            case ",":
                parts.append(b",")
            case _:
                found = _ITEM.match(text, at)
                if found is None:
                    raise ValueError(f"not an array: {text!r}")
                quoted, plain = found.groups()
                if quoted is not None:
                    parts.append(convert(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)))
                else:
                    parts.append(b"null" if plain == "NULL" else convert(plain))
                at = found.end()
                continue
        at += 1
    return b"".join(parts)
