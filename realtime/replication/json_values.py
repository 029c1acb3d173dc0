"""PostgreSQL's text form of a value as the JSON that `to_jsonb` makes of it, by type name. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

_SPACED = re.compile(r"^(\d+-\d\d-\d\d) ")
_SHORT_ZONE = re.compile(r"([+-]\d\d)(?= BC$|$)")


def _plain(text: str) -> bytes:
    return text.encode()


def _decimal(text: str) -> bytes:
    return text.encode() if text not in ("NaN", "Infinity", "-Infinity") else _string(text)


def _boolean(text: str) -> bytes:
    return b"true" if text == "t" else b"false"


def _string(text: str) -> bytes:
    return orjson.dumps(text)


def _timestamp(text: str) -> bytes:
    return _string(_SPACED.sub(r"\1T", text))


def _timestamptz(text: str) -> bytes:
    return _string(_SHORT_ZONE.sub(r"\1:00", _SPACED.sub(r"\1T", text)))


_CONVERTERS: dict[str, Callable[[str], bytes]] = {
    "int2": _plain,
    "int4": _plain,
    "int8": _plain,
    "numeric": _decimal,
    "bool": _boolean,
    "jsonb": _plain,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "uuid", "date", "time", "interval", "bytea"), _string),
}


def knows(type_name: str) -> bool:
    """Whether values of the type (`pg_type.typname`) can be converted here; the others only by the database."""
    return type_name.removeprefix("_") in _CONVERTERS


def json_text(text: str | None, type_name: str) -> bytes:
    """The JSON of a value of a known type. Numbers keep all of their digits."""
    if text is None:
        return b"null"
    if type_name.startswith("_"):
        return _array(text, _CONVERTERS[type_name[1:]])
    return _CONVERTERS[type_name](text)


_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', re.DOTALL)


def _array(text: str, convert: Callable[[str], bytes]) -> bytes:
    """An array in curly braces; its items may be arrays. Bounds, as in `[0:1]={1,2}`, are not told."""
    if text.startswith("["):
        text = text.partition("=")[2]
    out: list[bytes] = []
    at = 0
    while at < len(text):
        match text[at]:
            case "{":
                out.append(b"[")
            case "}":
                out.append(b"]")
            case ",":
                out.append(b",")
            case _:
                found = _ITEM.match(text, at)
                if found is None:
                    raise ValueError(f"not an array: {text!r}")
                quoted, plain = found.groups()
                if quoted is not None:
                    out.append(convert(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)))
                else:
                    out.append(b"null" if plain == "NULL" else convert(plain))
                at = found.end()
                continue
        at += 1
    return b"".join(out)
