"""A table's columns as one role may read them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg.rows import DictRow

NO_PRIMARY_KEY = "Error 400: Bad Request, no primary key"
UNAUTHORIZED = "Error 401: Unauthorized"


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is the short name that clients are told, `sql_type` what a value is cast to."""

    name: str
    type: str
    sql_type: str
    is_key: bool
    is_readable: bool


@dataclass(frozen=True, slots=True)
class TableColumns:
    """All of a table's columns; `secured` says whether each row has to be checked for the role."""

    columns: dict[str, Column]
    secured: bool
    row_security: bool
    keys: tuple[Column, ...] = field(init=False)
    error: str | None = field(init=False)
    """Why rows cannot be shown to the role, in the real service's words."""

    def __post_init__(self) -> None:
        keys = tuple(column for column in self.columns.values() if column.is_key)
        error = None
        if not keys:
            error = NO_PRIMARY_KEY
        elif not all(column.is_readable for column in keys):
            error = UNAUTHORIZED
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "error", error)

    @classmethod
    def of(cls, rows: list[DictRow]) -> TableColumns:
        """From the catalog's answer; no rows for a role that is not there."""
        columns = {
            row["name"]: Column(row["name"], row["type"], row["sql_type"], row["key"], row["readable"]) for row in rows
        }
        row_security = any(row["row_security"] for row in rows)
        return cls(columns, row_security and not any(row["bypass"] for row in rows), row_security)

    def shown(self, selected: tuple[str, ...] | None) -> list[Column]:
        """The columns that a subscriber is told of."""
        return [
            column
            for column in self.columns.values()
            if column.is_readable and (selected is None or column.is_key or column.name in selected)
        ]
