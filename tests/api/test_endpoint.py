"""Every value that comes from outside has bounds: in messages, in requests, in forms and in the server's answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, inspect

from onsembl.api.http.endpoint import Endpoint
from onsembl.api.routes.table import ENDPOINTS
from onsembl.protocol import enrolment
from onsembl.protocol.field_types import END, MAX_TEXT_BYTES, NO_NUL, Bounded, CommandText, Count, Name, Time
from onsembl.protocol.json_input import InputError, InvalidInput, decode
from onsembl.protocol.messages import AgentMessage, ServerToAgentMessage, ViewerMessage

REQUESTS = [model for endpoint in ENDPOINTS for model in (endpoint.body, endpoint.query) if model is not None]
RECEIVED: list[Any] = [
    AgentMessage,
    ViewerMessage,
    ServerToAgentMessage,
    *REQUESTS,
    enrolment.AgentCredentials,
    enrolment.DeviceAuthorization,
    enrolment.DeviceErrorAnswer,
]
MAY_HAVE_NUL = {"Keys.text"}
"""Keys are bytes for a program; Ctrl-Space is NUL. They are never stored."""


def unbounded(type: inspect.Type, place: str, seen: set[Any]) -> Iterator[str]:
    """The places of the values without bounds, with the missing bound."""
    match type:
        case inspect.StructType(cls=cls, fields=fields):
            if cls in seen:
                return
            seen.add(cls)
            for field in fields:
                where = f"{cls.__name__}.{field.name}"
                yield from unbounded(field.type, where, seen)
                if needs_a_check(field.type) and not issubclass(cls, Bounded):
                    yield f"{where}: {cls.__name__} does not check it"
        case inspect.UnionType(types=options):
            for option in options:
                yield from unbounded(option, place, seen)
        case inspect.Metadata(type=inner):
            yield from unbounded(inner, place, seen)
        case inspect.ListType(item_type=item, max_length=most):
            if most is None:
                yield f"{place}: length of the list"
            yield from unbounded(item, f"{place}[]", seen)
        case inspect.DictType(key_type=key, value_type=value, max_length=most):
            if most is None:
                yield f"{place}: number of keys"
            yield from unbounded(key, f"{place}.keys", seen)
            yield from unbounded(value, f"{place}.values", seen)
        case inspect.StrType(max_length=most, pattern=pattern):
            if most is None:
                yield f"{place}: length of the text"
            if pattern is None and place not in MAY_HAVE_NUL:
                yield f"{place}: characters of the text"
            if pattern is not None and pattern.endswith("$") and pattern != NO_NUL:
                yield f"{place}: a line feed at the end of the text"
        case inspect.IntType() | inspect.FloatType():
            if (type.ge is None and type.gt is None) or (type.le is None and type.lt is None):
                yield f"{place}: range of the number"
        case inspect.DateTimeType(tz=tz):
            if tz is not True:
                yield f"{place}: time zone"
        case inspect.DateType():
            pass  # the years 1 to 9999, which Postgres has, too
        case inspect.BoolType() | inspect.NoneType() | inspect.UUIDType() | inspect.EnumType() | inspect.LiteralType():
            pass
        case _:
            yield f"{place}: a type without bounds"


def needs_a_check(type: inspect.Type) -> bool:
    """Whether msgspec alone cannot hold the bound."""
    match type:
        case inspect.DateTimeType():
            return True
        case inspect.Metadata(type=inner, extra=extra):
            return "max_bytes" in (extra or {}) or needs_a_check(inner)
        case inspect.UnionType(types=options):
            return any(map(needs_a_check, options))
        case _:
            return False


def test_every_field_that_comes_in_has_bounds():
    """Every number, text, time, list and mapping of every message and request has bounds."""
    seen: set[Any] = set()
    assert [place for type in RECEIVED for place in unbounded(inspect.type_info(type), str(type), seen)] == []
    assert len(seen) > 50, "the types were walked"


class Inner(msgspec.Struct):
    """Every kind of field without bounds."""

    at: Time
    anything: Any
    number: int
    text: str
    word: Annotated[str, Meta(max_length=9, pattern="^[a-z]+$")]
    items: list[Count]
    keys: dict[Name, Count]


class Outer(Bounded, frozen=True, kw_only=True):
    """A struct with bounds that contains one without."""

    inner: Inner | None = None


def test_a_field_without_bounds_is_found():
    """The walk finds each kind of missing bound."""

    assert [place.partition(": ")[2] for place in unbounded(inspect.type_info(Outer), "", set())] == [
        "Inner does not check it",
        "a type without bounds",
        "range of the number",
        "length of the text",
        "characters of the text",
        "a line feed at the end of the text",
        "length of the list",
        "number of keys",
    ]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "x\n"])
def test_a_pattern_ends_with_its_text(ending):
    """`$` lets one line feed pass, which then begins a line of a log, or a header: the end of every pattern is END."""
    word = msgspec.json.Decoder(Annotated[str, Meta(pattern=f"^[a-z]+{END}")])
    text = msgspec.json.encode(f"word{ending}")
    if ending:
        with pytest.raises(msgspec.ValidationError):
            word.decode(text)
    else:
        assert word.decode(text) == "word"


def structs(type: inspect.Type, seen: set[Any]) -> Iterator[inspect.StructType]:
    """Every struct in a type."""
    match type:
        case inspect.StructType(cls=cls, fields=fields):
            if cls not in seen:
                seen.add(cls)
                yield type
                for field in fields:
                    yield from structs(field.type, seen)
        case inspect.UnionType(types=options):
            for option in options:
                yield from structs(option, seen)
        case inspect.Metadata(type=inner) | inspect.ListType(item_type=inner) | inspect.DictType(value_type=inner):
            yield from structs(inner, seen)
        case _:
            pass


@pytest.mark.parametrize(
    "received",
    [AgentMessage, ViewerMessage, ServerToAgentMessage, enrolment.AgentCredentials, enrolment.DeviceAuthorization],
)
def test_a_receiver_ignores_unknown_fields(received):
    """No message forbids unknown fields, so that a newer side can add one."""
    found = list(structs(inspect.type_info(received), set()))
    assert found
    assert [struct.cls.__name__ for struct in found if struct.forbid_unknown_fields] == []


def test_a_request_rejects_unknown_fields():
    """Every struct of a request's body forbids unknown fields, so that a mistyped name is an error."""
    found = [struct for model in REQUESTS for struct in structs(inspect.type_info(model), set())]
    lax = {struct.cls.__name__ for struct in found if not struct.forbid_unknown_fields}
    assert lax == {"AuditQuery", "AuditExport"}


def test_a_path_has_no_parameter_without_bounds():
    """A number in a path has the width of its column; a text is bounded by the length of the request's head."""
    kinds = {part.split(":")[1].rstrip("}") for endpoint in ENDPOINTS for part in parts_of(endpoint)}
    assert kinds == {"uuid", "number", "str"}


def parts_of(endpoint: Endpoint) -> list[str]:
    return [part for part in endpoint.path.split("/") if part.startswith("{")]


class Sample(Bounded, frozen=True, kw_only=True):
    """One field of each type that has a bound of its own."""

    at: Time | None = None
    name: Name | None = None
    text: CommandText | None = None


DECODER = msgspec.json.Decoder(Sample)


@pytest.mark.parametrize(
    ("body", "invalid"),
    [
        ('{"at": "9999-12-31T23:59:59-05:00"}', True),
        ('{"at": "0001-01-01T00:00:00+05:00"}', True),
        ('{"at": "2026-01-01T00:00:00"}', True),
        ('{"name": "one\\n"}', True),
        ('{"text": "a\\u0000"}', True),
        (f'{{"text": "{"語" * 40_000}"}}', True),
        ('{"text": "\\ud800"}', False),
        (b'{"text": "\xed\xa0\x80"}', False),
        ('{"x": ' + "[" * 100_000, False),
    ],
)
def test_a_value_beyond_its_bounds_is_rejected(body, invalid):
    """A value that could not be stored, shown or run is rejected as one kind of error."""
    with pytest.raises(InvalidInput if invalid else InputError) as raised:
        decode(DECODER, body)
    assert isinstance(raised.value, InvalidInput) == invalid


def test_a_value_within_its_bounds_is_accepted():
    """The longest text in bytes and the last time of every time zone are accepted."""
    text = "é" * (MAX_TEXT_BYTES // 2)
    sample = decode(DECODER, msgspec.json.encode({"text": text, "at": "9998-12-31T23:59:59Z", "name": "one"}))
    assert sample.text == text
