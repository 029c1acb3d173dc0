"""A table's columns as one role may read them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg.rows import DictRow

from onsembl.realtime.replication.pgoutput import Relation

NO_PRIMARY_KEY = "Error 400: Bad Request, no primary key"
UNAUTHORIZED = "Error 401: Unauthorized"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """`name` is the short name that clients get; `sql` is the name for casts."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the catalog, as it is now."""

    name: str
    type_oid: int
    is_key: bool
    is_readable: bool
    is_generated: bool


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
    is_hidden: bool = field(init=False)
    """Whether the role may read no column: then it is not even told when a row changes."""
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
        object.__setattr__(self, "is_hidden", not any(column.is_readable for column in self.columns.values()))
        object.__setattr__(self, "error", error)

    @classmethod
    def from_catalog(cls, rows: list[DictRow]) -> TableColumns:
        """Read the columns from the rows of the catalog. A role that does not exist has no rows."""
        columns = {
            row["name"]: TableColumn(
                row["name"], row["type_oid"], row["key"], row["readable"], bool(row["generated"].strip())
            )
            for row in rows
            if row["generated"] != "v"  # A virtual column has no value in a change.
        }
        rls_enabled = any(row["row_security"] for row in rows)
        return cls(columns, rls_enabled and not any(row["bypass"] for row in rows), rls_enabled)

    def readable(self, selected: tuple[str, ...] | None, relation: Relation) -> list[TableColumn]:
        """The columns that a subscriber gets of a change to `relation`, the table as it was in the change's
        transaction: the readable ones of its selection, and the key.

        A privilege belongs to a column, not to its name: a column that has another name, or none, by now is left out.
        """
        names_then = [column.name for column in relation.columns]
        names_now = [name for name, column in self.columns.items() if name in names_then or not column.is_generated]
        renamed = (
            {now for then, now in zip(names_then, names_now, strict=True) if then != now}
            if len(names_then) == len(names_now)
            else set[str]()
        )
        return [
            column
            for column in self.columns.values()
            if column.is_readable
            and column.name not in renamed
            and (column.is_generated or column.name in names_then)
            and (selected is None or column.is_key or column.name in selected)
        ]
