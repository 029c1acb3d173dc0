"""A table's columns as one role may read them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg.rows import DictRow

NO_PRIMARY_KEY = "Error 400: Bad Request, no primary key"
UNAUTHORIZED = "Error 401: Unauthorized"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """`type` is the short name that clients get; `sql_type` is the type for casts."""

    name: str
    type: str
    sql_type: str
    is_key: bool
    is_readable: bool


@dataclass(frozen=True, slots=True)
class TableColumns:
    """All columns of a table, for one role.

    `rls_enabled` says whether the table has row-level security, `rls_applies` whether it applies to the role.
    """

    columns: dict[str, TableColumn]
    rls_applies: bool
    rls_enabled: bool
    keys: tuple[TableColumn, ...] = field(init=False)
    """The columns of the primary key."""
    error: str | None = field(init=False)
    """Why the role gets no rows of the table, in Supabase Realtime's text; None when it does."""

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
    def from_catalog(cls, rows: list[DictRow]) -> TableColumns:
        """Read the columns from the rows of the catalog. A role that does not exist has no rows."""
        columns = {
            row["name"]: TableColumn(row["name"], row["type"], row["sql_type"], row["key"], row["readable"])
            for row in rows
        }
        rls_enabled = any(row["row_security"] for row in rows)
        return cls(columns, rls_enabled and not any(row["bypass"] for row in rows), rls_enabled)

    def readable(self, selected: tuple[str, ...] | None) -> list[TableColumn]:
        """The columns that a subscriber gets: the readable ones of its selection, and the key."""
        return [
            column
            for column in self.columns.values()
            if column.is_readable and (selected is None or column.is_key or column.name in selected)
        ]
