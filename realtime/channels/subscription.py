"""Parses the entries of `postgres_changes`: the table, the event and the filters of a subscription. No I/O."""

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
MAX_ENTRIES = 100
"""How many entries a channel may have."""
MAX_FILTER_LENGTH = 10_000
"""The length of an entry's filters, in characters."""
MAX_FILTERS = 20
"""How many filters an entry may have."""
_EVENTS: dict[str, Event] = {"INSERT": "INSERT", "UPDATE": "UPDATE", "DELETE": "DELETE"}


class BadSubscription(ValueError):
    """The parameters of a subscription are wrong; the text is Supabase Realtime's."""


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """One condition on a column. `operator` is the client's name for it; the argument of `in` is an array's text."""

    column: str
    operator: str
    argument: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Subscription:
    """One entry of a channel's `postgres_changes`. Changes name it by its `id`.

    `selected` are the columns that the client gets besides the key; None for all columns.
    """

    id: int
    event: Event
    schema: str
    table: str
    filters: tuple[ChangeFilter, ...]
    selected: tuple[str, ...] | None = None

    @property
    def has_regular_expression(self) -> bool:
        """Whether a filter has one."""
        return any(condition.operator in ("match", "imatch") for condition in self.filters)

    def matches(self, kind: str, schema: str, table: str) -> bool:
        """Whether the subscription is to this kind of change of this table, before its filters."""
        return self.event in ("*", kind) and self.schema in ("*", schema) and self.table in ("*", table)

    def __str__(self) -> str:
        """The form in the texts of errors."""
        filters = [(f.column, f.operator, f.argument, f.negated) for f in self.filters]
        selected = None if self.selected is None else list(self.selected)
        return (
            f"event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: {_inspect(filters)}, select: {_inspect(selected)}"
        )


def subscription_id(params: Mapping[str, Any]) -> int:
    """A stable id between 1 and 2**27: equal parameters have equal ids."""
    text = orjson.dumps(params, option=orjson.OPT_SORT_KEYS, default=repr)
    return zlib.crc32(text) % (2**27 - 1) + 1


def parse(params: Mapping[str, Any]) -> Subscription:
    """Parse one entry. Raises BadSubscription."""
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
    """Parse the entries of a join: the entries for its reply, the subscriptions and the error, if any. One wrong entry
    makes all invalid, as in Supabase Realtime."""
    reply = [{**entry, "id": subscription_id(entry)} for entry in entries]
    if len(entries) > MAX_ENTRIES:
        return reply, (), f"Too many `postgres_changes`: {len(entries)}, and at most {MAX_ENTRIES} are allowed"
    try:
        return reply, tuple(parse(entry) for entry in entries), None
    except BadSubscription as error:
        return reply, (), str(error)


def _selected(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise BadSubscription(
            'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]'
        )
    names = [name for name in cast(list[object], value) if isinstance(name, str)] if isinstance(value, list) else []
    return tuple(names) or None


def parse_filters(text: str) -> tuple[ChangeFilter, ...]:
    """Parse conditions `column=operator.value`, separated by commas; all must hold. Raises BadSubscription."""
    if not text.strip():
        return ()
    if len(text) > MAX_FILTER_LENGTH:
        raise _bad(f"filter must not be longer than {MAX_FILTER_LENGTH} characters")
    filters = tuple(_filter(part.strip()) for part in _split(text.strip()))
    if len(filters) > MAX_FILTERS:
        raise _bad(f"filter must not have more than {MAX_FILTERS} segments")
    return filters


def _split(text: str) -> list[str]:
    """Split at commas that are neither in parentheses nor in quotes. A quote begins only where a value does."""
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


def _filter(text: str) -> ChangeFilter:
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
        return ChangeFilter(column, operator, _unquote(value), negated)
    if len(value) < 2 or value[0] != "(" or value[-1] != ")":
        raise _bad("`in` filter value must be wrapped by parentheses")
    return ChangeFilter(column, operator, "{" + value[1:-1] + "}", negated)


def _bad(reason: str) -> BadSubscription:
    return BadSubscription(f"Error parsing `filter` params: {reason}")


def _unquote(value: str) -> str:
    """The contents of a quoted value; a value that is not well quoted stays as it is."""
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
    """A value in Elixir's notation, which Supabase Realtime's texts have."""
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
