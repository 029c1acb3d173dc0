"""Parsing subscriptions to postgres_changes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.channels.subscription import (
    MAX_FILTERS,
    OPERATORS,
    BadSubscription,
    ChangeFilter,
    parse,
    parse_filters,
    subscription_id,
)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", []),
        ("  ", []),
        ("id=eq.1", [("id", "eq", "1", False)]),
        ("id=not.eq.1", [("id", "eq", "1", True)]),
        ("id=gt.0,id=lt.100", [("id", "gt", "0", False), ("id", "lt", "100", False)]),
        ("name=in.(hidee,ho)", [("name", "in", "{hidee,ho}", False)]),
        ('name=in.("a,b",c),id=eq.1', [("name", "in", '{"a,b",c}', False), ("id", "eq", "1", False)]),
        ('name=eq."a,b"', [("name", "eq", "a,b", False)]),
        ('name=eq."a\\"b\\\\"', [("name", "eq", 'a"b\\', False)]),
        ('name=eq.a"b', [("name", "eq", 'a"b', False)]),
        ('name=eq."a"b"', [("name", "eq", '"a"b"', False)]),
        ("name=eq.a=b.c", [("name", "eq", "a=b.c", False)]),
        ("name=eq.", [("name", "eq", "", False)]),
        ("name=is.null", [("name", "is", "null", False)]),
        ("name=eq.f(a,b)", [("name", "eq", "f(a,b)", False)]),
    ],
)
def test_filters(text, filters):
    """Columns, operators, values and negations are parsed."""
    assert parse_filters(text) == tuple(ChangeFilter(*f) for f in filters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("undefined", 'Error parsing `filter` params: ["undefined"]'),
        ("a=foo.hey", 'Error parsing `filter` params: ["foo", "hey"]'),
        ("a=eq", 'Error parsing `filter` params: ["eq"]'),
        ("a=in.1,2", "Error parsing `filter` params: `in` filter value must be wrapped by parentheses"),
        (
            "a=eq.1,,b=eq.2",
            "Error parsing `filter` params: filter must not contain empty segments (check for extra commas)",
        ),
    ],
)
def test_wrong_filters_are_rejected(text, message):
    """A wrong filter is rejected with Supabase Realtime's text."""
    with pytest.raises(BadSubscription) as caught:
        parse_filters(text)
    assert str(caught.value) == message


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(OPERATORS - {"in"})), st.text(), st.booleans()),
        min_size=1,
        max_size=MAX_FILTERS,
    )
)
def test_a_quoted_value_is_any_text(conditions):
    """A quoted value may hold any text."""

    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ",".join(f"c={'not.' * negated}{op}.{quoted(value)}" for op, value, negated in conditions)
    assert parse_filters(text) == tuple(ChangeFilter("c", op, value, negated) for op, value, negated in conditions)


@given(st.text())
def test_any_text_is_filters_or_rejected(text):
    """Any text is parsed or raises BadSubscription, and no other error."""
    with contextlib.suppress(BadSubscription):
        parse_filters(text)


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"schema": "a", "table": "b"}, ("*", "a", "b")),
        ({"schema": "a"}, ("*", "a", "*")),
        ({"table": "b"}, ("*", "public", "b")),
        ({"event": "insert", "schema": "a"}, ("INSERT", "a", "*")),
        ({"event": "nonsense", "schema": "a"}, ("*", "a", "*")),
    ],
)
def test_tables_and_events(params, wanted):
    """An absent schema is public, an absent table is every table, and an unknown event is every event."""
    subscription = parse(params)
    assert (subscription.event, subscription.schema, subscription.table) == wanted


@pytest.mark.parametrize(
    "params", [{}, {"schema": 1}, {"filter": "a=eq.1"}, {"schema": "a", "filter": "a=eq.1"}, {"table": []}]
)
def test_params_without_a_table_are_rejected(params):
    """Parameters without a schema and a table are rejected."""
    with pytest.raises(BadSubscription, match="No subscription params provided"):
        parse(params)


def test_an_error_does_not_repeat_a_token():
    """The text of an error, which goes into logs, redacts a token."""
    with pytest.raises(BadSubscription, match="<redacted>"):
        parse({"user_token": "secret"})


@pytest.mark.parametrize(
    ("select", "schema", "message"),
    [("id", "public", "expected a list of column name strings"), (["id"], "*", "not supported for wildcard")],
)
def test_wrong_selections_are_rejected(select, schema, message):
    """`select` must be a list of columns of one table."""
    with pytest.raises(BadSubscription, match=message):
        parse({"schema": schema, "table": "t", "select": select})


def test_ids_are_stable_and_small():
    """Equal parameters in any order have equal ids, below 2**27 and never 0."""
    one = subscription_id({"event": "*", "schema": "public"})
    assert one == subscription_id({"schema": "public", "event": "*"})
    assert 0 < one < 2**27
    assert one != subscription_id({"event": "INSERT", "schema": "public"})
