"""The JSON of values, compared with Postgres' to_jsonb and with the exceptions of Supabase Realtime."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onsembl.realtime.replication.json_values import converts, json_text

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
TYPES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "int2": ("int2", st.integers(-(2**15), 2**15 - 1)),
    "int4": ("int4", st.integers(-(2**31), 2**31 - 1)),
    "int8": ("int8", st.integers(-(2**63), 2**63 - 1)),
    "numeric": ("numeric", st.decimals(allow_nan=False, allow_infinity=False)),
    "float4": ("float4", st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "float8": ("float8", st.floats(allow_nan=False, allow_infinity=False)),
    "bool": ("bool", st.booleans()),
    "text": ("text", TEXT),
    "bytea": ("bytea", st.binary()),
    "uuid": ("uuid", st.uuids()),
    "date": ("date", st.dates()),
    "time": ("time", st.times()),
    "timestamp": ("timestamp", st.datetimes()),
    "timestamptz": ("timestamptz", st.datetimes(timezones=st.just(datetime.UTC))),
    "interval": ("interval", st.timedeltas(datetime.timedelta(-10_000), datetime.timedelta(10_000))),
    "_text": ("text[]", st.lists(st.none() | TEXT)),
    "_int4": ("int4[]", st.lists(st.none() | st.integers(-(2**31), 2**31 - 1))),
    "_bool": ("bool[]", st.lists(st.booleans())),
    "_bytea": ("bytea[]", st.lists(st.none() | st.binary())),
    "_float8": ("float8[]", st.lists(st.floats())),
    "_numeric": ("numeric[]", st.lists(st.none() | st.decimals(allow_nan=False))),
}


@pytest.fixture(scope="module")
def conn(postgres: Any) -> Any:
    options = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex"
    with psycopg.connect(postgres.url("postgres"), autocommit=True, options=options) as conn:
        yield conn


@pytest.mark.parametrize("name", TYPES)
def test_json_is_that_of_postgres(name, conn):
    """The JSON of every value of a convertible type equals that of to_jsonb; for bytes, without their prefix."""
    sql_type, values = TYPES[name]

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(values)
    def check(value: Any) -> None:
        row = conn.execute(
            f"""select case when pg_typeof(v) = 'bool'::regtype then left(v::text, 1) else v::text end,
                case when pg_typeof(v) = 'bytea'::regtype then to_jsonb(substr(v::text, 3)) else to_jsonb(v) end::text
                from (select %s::{sql_type} as v) as x""",
            [value],
        ).fetchone()
        made = json.loads(json_text(row[0], name), parse_float=Decimal)
        assert made == json.loads(row[1], parse_float=Decimal)

    check()


@pytest.mark.parametrize(
    ("text", "name", "made"),
    [
        ("infinity", "timestamptz", "infinity"),
        ("0044-03-15 00:00:00+00 BC", "timestamptz", "0044-03-15T00:00:00+00:00 BC"),
        ("{{1,2},{3,4}}", "_int4", [[1, 2], [3, 4]]),
        ("[0:1]={1,2}", "_int4", [1, 2]),
        ("{}", "_text", []),
        ('{"a\\"b","c\\\\d",NULL,"NULL"}', "_text", ['a"b', "c\\d", None, "NULL"]),
        ('{"a": 12345678901234567890123}', "jsonb", {"a": 12345678901234567890123}),
        *((text, name, None) for text in ("NaN", "Infinity", "-Infinity") for name in ("numeric", "float4", "float8")),
        ("{NaN,-Infinity,1}", "_float8", ["NaN", "-Infinity", 1]),
        ("\\x00ff", "bytea", "00ff"),
        ('{"\\\\x00ff"}', "_bytea", ["\\x00ff"]),
        (None, "int4", None),
    ],
)
def test_rare_values(text, name, made):
    """Numbers that are not finite are null, bytes are hexadecimal digits, but not so in arrays; dates before Christ,
    nested arrays, array bounds and large numbers are converted."""
    assert json.loads(json_text(text, name)) == made


def test_other_types_are_left_to_the_database():
    """Types that are not in the list are not convertible here."""
    assert not converts("money")
    assert not converts("json")
    assert converts("_uuid")
