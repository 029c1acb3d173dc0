"""Loads every value of a row, also one that Python cannot hold: it becomes an object that names the fault.

Postgres has times beyond the year 9999 and JSON of any depth. Without these loaders, one such value in one row raises
an error for the whole result, and so for every list that has the row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, Self

from psycopg import AsyncConnection, DataError, adapters
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.postgres import types
from psycopg.pq import Format
from psycopg.types.json import JsonbLoader

from onsembl.protocol.field_types import EARLIEST, LATEST


class UnreadableValue:
    """A value that cannot be loaded; `fault` says why, for people."""

    __slots__ = ("fault",)

    def __init__(self, fault: str) -> None:
        self.fault = fault


class UnreadableTime(datetime):
    """A time beyond those of Python, as the nearest time of `EARLIEST` and `LATEST`: it can be compared and computed
    with."""

    fault: str

    @classmethod
    def of(cls, text: str) -> Self:
        """The time that Postgres writes so."""
        nearest = EARLIEST if text.startswith("-") or text.endswith("BC") else LATEST
        time = cls(nearest.year, 1, 1, tzinfo=nearest.tzinfo)
        time.fault = f"the time {text} is out of range"
        return time


def _guarded(name: str, load_fault: Callable[[str], object]) -> type[Loader]:
    """psycopg's loader of this type, with an object in place of a value that it cannot load."""
    oid = types[name].oid
    original = adapters.get_loader(oid, Format.TEXT)
    assert original is not None

    class GuardedLoader(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._load = original(oid, context).load

        def load(self, data: Buffer) -> Any:
            try:
                return self._load(data)
            except (DataError, ValueError, OverflowError):
                return load_fault(bytes(data).decode())

    return GuardedLoader


class _Json(JsonbLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return json.loads(bytes(data))
        except RecursionError:
            return UnreadableValue("JSON that is nested too deep")
        except ValueError as error:  # an integer of more than 4,300 digits
            return UnreadableValue(f"JSON that cannot be read: {error}")


class _Float(Loader):
    def load(self, data: Buffer) -> Any:
        value = float(bytes(data))
        return value if math.isfinite(value) else UnreadableValue(f"the number {value}")


_LOADERS: dict[str, type[Loader]] = {
    "timestamptz": _guarded("timestamptz", UnreadableTime.of),
    "date": _guarded("date", lambda text: UnreadableValue(f"the date {text} is out of range")),
    "jsonb": _Json,
    "float8": _Float,
}


def load_every_value(conn: AsyncConnection[Any]) -> None:
    """Use these loaders on a connection."""
    for name, loader in _LOADERS.items():
        conn.adapters.register_loader(name, loader)
