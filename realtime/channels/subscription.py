"""What a channel asks of `postgres_changes`: which table, which events, which rows. Parsing, no I/O."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import orjson

EVENTS = ("*", "INSERT", "UPDATE", "DELETE")
_OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "in": "in",
    "like": "like",
    "ilike": "ilike",
    "is": "is",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
}
MAX_IN = 100


class BadSubscription(ValueError):
    """The parameters are wrong; the text is Supabase Realtime's."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column; `operator` is SQL's."""

    column: str
    operator: str
    argument: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Subscription:
    """One entry of a channel's `postgres_changes`; `id` is what deliveries name it by."""

    id: int
    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...]

    def wants(self, kind: str, schema: str, table: str) -> bool:
        """Whether a change of this kind to this table concerns it, filters aside."""
        return self.event in ("*", kind) and self.schema in ("*", schema) and self.table in ("*", table)


def subscription_id(params: dict[str, Any]) -> int:
    """A stable id below 2**27, never 0: the same parameters get the same."""
    return zlib.crc32(orjson.dumps(params, option=orjson.OPT_SORT_KEYS)) % (2**27 - 1) + 1


def parse(params: dict[str, Any]) -> Subscription:
    """An entry as the client sent it. Raises BadSubscription."""
    if "schema" not in params and "table" not in params:
        raise BadSubscription(
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
            f"{orjson.dumps(params).decode()}"
        )
    if params.get("event") not in EVENTS:
        raise BadSubscription(f"Error parsing `event` params: {params.get('event')!r}")
    return Subscription(
        id=subscription_id(params),
        event=str(params.get("event", "*")),
        schema=str(params.get("schema", "public")),
        table=str(params.get("table", "*")),
        filters=_filters(params.get("filter")),
    )


def _filters(text: object) -> tuple[Filter, ...]:
    if not isinstance(text, str) or not text:
        return ()
    return tuple(_filter(part) for part in _split(text))


def _split(text: str) -> list[str]:
    """At commas that are neither in parentheses nor in quotes."""
    parts, depth, quoted, begin = list[str](), 0, False, 0
    for at, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
        elif character == "," and not quoted and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]


def _filter(text: str) -> Filter:
    column, equals, condition = text.partition("=")
    negated = condition.startswith("not.")
    operator, dot, value = condition.removeprefix("not.").partition(".")
    if not equals or not dot or operator not in _OPERATORS:
        raise BadSubscription(f"Error parsing `filter` params: {orjson.dumps(text.split('=')).decode()}")
    if operator == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise BadSubscription("Error parsing `filter` params: `in` filter value must be wrapped by parentheses")
        items = [_unquote(item) for item in _split(value[1:-1])]
        if len(items) > MAX_IN:
            raise BadSubscription(f"Error parsing `filter` params: `in` takes at most {MAX_IN} values")
        argument = "{" + ",".join('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items) + "}"
    else:
        argument = _unquote(value)
    return Filter(column, _OPERATORS[operator], argument, negated)


def _unquote(value: str) -> str:
    if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
        return value[1:-1]
    return value
