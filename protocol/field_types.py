"""The types of fields that come from outside, and the base classes of structs that have them.

Every field has bounds: a value beyond them is rejected where it arrives, so that it cannot be stored and break a reader
later. `tests/api/test_endpoint.py` walks all messages and requests, and fails on a field without bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, inspect

MAX_PIDS = 64
"""The most process ids that one report has."""
MAX_TEXT = 100_000
"""The limit of a command's text, in characters."""
MAX_TEXT_BYTES = 100_000
"""The limit of a new command's text, in bytes of UTF-8. Linux limits an argument of a program to 128 KiB."""
MAX_PROBLEM_BYTES = 256
"""The limit of an agent's problem, in bytes of UTF-8."""
MAX_COUNT = 2**53
"""JavaScript has the integers up to this exactly."""
EARLIEST = datetime(2, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""Times lie between these two, so that every time zone can show them."""

# PostgreSQL's type text takes every character except NUL.
NO_NUL = r"^[^\x00]*$"
# Unlike `$`, this does not match before a line feed at the end.
END = r"(?![\s\S])"
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]*{END}")]
Label = Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*{END}")]
VariableName = Annotated[str, Meta(max_length=64, pattern=rf"^[a-z][a-z0-9_]*{END}")]
Credential = Annotated[str, Meta(min_length=1, max_length=16_384, pattern=rf"^[!-~]+{END}")]
"""A token: printable ASCII."""
ShortText = Annotated[str, Meta(max_length=256, pattern=NO_NUL)]
Reason = Annotated[str, Meta(max_length=1024, pattern=NO_NUL)]
ProblemText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_PROBLEM_BYTES,
        pattern=NO_NUL,
        description=f"At most {MAX_PROBLEM_BYTES} bytes in UTF-8.",
        extra={"max_bytes": MAX_PROBLEM_BYTES},
    ),
]
CommandText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_TEXT,
        pattern=NO_NUL,
        description=f"At most {MAX_TEXT_BYTES:,} bytes in UTF-8.",
        extra={"max_bytes": MAX_TEXT_BYTES},
    ),
]
Priority = Annotated[int, Meta(ge=1, le=10, description="1 is first, 10 is last.")]
Columns = Annotated[int, Meta(ge=2, le=1000)]
Rows = Annotated[int, Meta(ge=1, le=1000)]
OffsetField = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
RowNumber = Annotated[int, Meta(ge=1, le=2**63 - 1)]
"""The number of a row, from which a page of a list continues."""
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Processes = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Pids = Annotated[list[Annotated[int, Meta(ge=1, le=2**31 - 1)]], Meta(max_length=MAX_PIDS)]
EscalationStage = Literal["interrupt", "sigint", "sigterm", "sigkill", "sweep", "failed"]
Time = Annotated[datetime, Meta(tz=True)]
"""A time with its offset from UTC: 2026-01-31T12:00:00Z. `Bounded` checks that it is in the years 2 to 9998."""


class Bounded(msgspec.Struct, frozen=True, kw_only=True):
    """A struct that checks the bounds of its times and the bytes of its texts, for which msgspec has no type."""

    def __post_init__(self) -> None:
        """Raises ValueError, which a decoder turns into msgspec.ValidationError."""
        for name, check in _checks(type(self)):
            value = getattr(self, name)
            if isinstance(value, str | datetime):
                check(name, value)


class Message(Bounded, frozen=True, kw_only=True, tag_field="type", rename=None):
    """A control message; each subclass gives its tag, a snake-case name."""


@cache
def _checks(struct: type[msgspec.Struct]) -> tuple[tuple[str, Callable[[str, Any], None]], ...]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return tuple((field.name, check) for field in info.fields for check in _checks_of(field.type))


def _checks_of(type: inspect.Type) -> list[Callable[[str, Any], None]]:
    match type:
        case inspect.DateTimeType():
            return [_check_time]
        case inspect.Metadata() as metadata:
            extra = cast("dict[str, int]", metadata.extra or {})  # pyright: ignore[reportUnknownMemberType]
            own = [partial(_check_bytes, extra["max_bytes"])] if "max_bytes" in extra else []
            return [*own, *_checks_of(metadata.type)]
        case inspect.UnionType(types=options):
            return [check for option in options for check in _checks_of(option)]
        case _:
            return []


def _check_time(name: str, value: datetime) -> None:
    if not EARLIEST <= value < LATEST:
        raise ValueError(f"`{name}` is not in the years 2 to 9998 in UTC")


def _check_bytes(limit: int, name: str, value: str) -> None:
    if len(value) * 4 > limit and len(value.encode()) > limit:
        raise ValueError(f"`{name}` has {len(value.encode()):,} bytes in UTF-8; the limit is {limit:,}")
