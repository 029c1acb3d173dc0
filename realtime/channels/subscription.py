"""What a channel asks of `postgres_changes`: which table, which events, which rows. Parsing, no I/O."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

Event = Literal["*", "INSERT", "UPDATE", "DELETE"]
OPERATORS = frozenset(
    {"eq", "neq", "lt", "lte", "gt", "gte", "in", "like", "ilike", "is", "match", "imatch", "isdistinct"}
)
_EVENTS: dict[str, Event] = {"INSERT": "INSERT", "UPDATE": "UPDATE", "DELETE": "DELETE"}


class BadSubscription(ValueError):
    """The parameters are wrong; the text is Supabase Realtime's."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column, with the operator's name in the client's words. An `in` has an array's text."""

    column: str
    operator: str
    argument: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Subscription:
    """One entry of a channel's `postgres_changes`; `id` is what deliveries name it by.

    `selected` are the columns to be told, besides the key; None for all.
    """

    id: int
    event: Event
    schema: str
    table: str
    filters: tuple[Filter, ...]
    selected: tuple[str, ...] | None = None

    def wants(self, kind: str, schema: str, table: str) -> bool:
        """Whether a change of this kind to this table concerns it, filters aside."""
        return self.event in ("*", kind) and self.schema in ("*", schema) and self.table in ("*", table)

    def __str__(self) -> str:
        """As the texts of errors show it."""
        filters = [(f.column, f.operator, f.argument, f.negated) for f in self.filters]
        selected = None if self.selected is None else list(self.selected)
        return (
            f"event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: {_inspect(filters)}, select: {_inspect(selected)}"
        )


def subscription_id(params: Mapping[str, Any]) -> int:
    """A stable id below 2**27, never 0: the same parameters get the same."""
    text = orjson.dumps(params, option=orjson.OPT_SORT_KEYS, default=repr)
    return zlib.crc32(text) % (2**27 - 1) + 1


def parse(params: Mapping[str, Any]) -> Subscription:
    """An entry as the client sent it. Raises BadSubscription."""
    schema, table, condition = (params.get(name) for name in ("schema", "table", "filter"))
    selected = _selected(params.get("select"))
    if isinstance(schema, str) and isinstance(table, str) and (condition is None or isinstance(condition, str)):
        filters = parse_filters(condition or "")
    elif condition is None and (isinstance(schema, str) or isinstance(table, str)) and None in (schema, table):
        filters = ()
    else:
        shown = "<redacted>" if {"user_token", "auth_token"} & params.keys() else _inspect(dict(params))
        raise BadSubscription(
            f"No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {shown}"
        )
    schema, table = cast(str, schema or "public"), cast(str, table or "*")
    if selected is not None and "*" in (schema, table):
        raise BadSubscription(
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
        )
    event = _EVENTS.get(str(params.get("event")).upper(), "*")
    return Subscription(subscription_id(params), event, schema, table, filters, selected)


def parse_all(
    entries: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], tuple[Subscription, ...], str | None]:
    """What to answer to a join's entries, the subscriptions, and what is wrong. One wrong entry spoils all, as the
    real service has it."""
    answer = [{**entry, "id": subscription_id(entry)} for entry in entries]
    try:
        return answer, tuple(parse(entry) for entry in entries), None
    except BadSubscription as error:
        return answer, (), str(error)


def _selected(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise BadSubscription(
            'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]'
        )
    names = [name for name in cast(list[object], value) if isinstance(name, str)] if isinstance(value, list) else []
    return tuple(names) or None


def parse_filters(text: str) -> tuple[Filter, ...]:
    """Conditions that all have to hold, `column=operator.value` separated by commas. Raises BadSubscription."""
    if not text.strip():
        return ()
    return tuple(_filter(part.strip()) for part in _split(text.strip()))


def _split(text: str) -> list[str]:
    """At commas that are neither in parentheses nor in quotes. A quote begins only where a value does."""
    parts, depth, quoted, begin, at, before = list[str](), 0, False, 0, 0, ""
    while at < len(text):
        character = text[at]
        if quoted and character == "\\":
            at += 1
        elif character == '"' and (quoted or before in (".", "(", ",")):
            quoted = not quoted
        elif not quoted and character == "(":
            depth += 1
        elif not quoted and character == ")":
            depth = max(0, depth - 1)
        elif not quoted and character == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
        before = character
        at += 1
    return [*parts, text[begin:]]


def _filter(text: str) -> Filter:
    if not text:
        raise _bad("filter must not contain empty segments (check for extra commas)")
    column, equals, condition = text.partition("=")
    if not equals:
        raise _bad(_inspect([text]))
    negated = condition.startswith("not.")
    operator, dot, value = condition.removeprefix("not.").partition(".")
    if not dot:
        raise _bad(_inspect([operator]))
    if operator not in OPERATORS:
        raise _bad(_inspect([operator, value]))
    if operator != "in":
        return Filter(column, operator, _unquote(value), negated)
    if len(value) < 2 or value[0] != "(" or value[-1] != ")":
        raise _bad("`in` filter value must be wrapped by parentheses")
    return Filter(column, operator, "{" + value[1:-1] + "}", negated)


def _bad(reason: str) -> BadSubscription:
    return BadSubscription(f"Error parsing `filter` params: {reason}")


def _unquote(value: str) -> str:
    """A value in quotes as it is meant; one whose quotes do not fit, as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    characters: list[str] = []
    at = 1
    while at < len(value) - 1:
        if value[at] == '"':
            return value
        if value[at] == "\\":
            at += 1
            if at == len(value) - 1:
                return value
        characters.append(value[at])
        at += 1
    return "".join(characters)


def _inspect(value: object) -> str:
    """The notation in which the real service puts values into its texts (Elixir's)."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case str():
            return orjson.dumps(value).decode()
        case list():
            return "[" + ", ".join(_inspect(item) for item in cast(list[object], value)) + "]"
        case tuple():
            return "{" + ", ".join(_inspect(item) for item in cast(tuple[object, ...], value)) + "}"
        case dict():
            entries = sorted(cast(dict[str, object], value).items())
            return "%{" + ", ".join(f"{_inspect(k)} => {_inspect(v)}" for k, v in entries) + "}"
        case _:
            return str(value)
