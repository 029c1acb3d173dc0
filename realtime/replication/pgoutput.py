"""Decodes PostgreSQL's logical replication stream, plugin `pgoutput`, protocol versions 1 and 2. No I/O.

The format is that of "Logical Replication Message Formats" in PostgreSQL's manual. Version 2 may stream a transaction
before its commit (only on request): its changes then carry the transaction's number, and are valid once it commits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Literal

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Unchanged(Enum):
    """A large value that an update did not touch; the log does not repeat it."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED
Value = str | None | Unchanged
"""A column's value in PostgreSQL's text form."""


class BadReplicationMessage(ValueError):
    """The bytes are no message of the plugin."""


@dataclass(frozen=True, slots=True)
class RelationColumn:
    name: str
    type_oid: int
    in_identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, sent before its first change. `identity` is d, n, f or i, as in pg_class.relreplident."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """A user-defined type, sent before a relation with a column of it."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Begin:
    """The beginning of a transaction, whose changes follow up to the commit.

    `xid` is the low half of its number; None where all transactions see its changes already.
    """

    final_lsn: int
    committed_at: datetime
    xid: int | None


@dataclass(frozen=True, slots=True)
class Commit:
    end_lsn: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one row. `new` is None for a deletion. `old` has the columns of the replica identity, if any."""

    kind: Literal["INSERT", "UPDATE", "DELETE"]
    relation: Relation
    new: dict[str, Value] | None
    old: dict[str, Value] | None
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[Relation, ...]
    cascade: bool
    restart_identity: bool
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class StreamStart:
    """The changes up to the next StreamStop are of a transaction that has not ended."""

    xid: int
    first: bool


@dataclass(frozen=True, slots=True)
class StreamStop:
    pass


@dataclass(frozen=True, slots=True)
class StreamCommit:
    """The streamed transaction has committed."""

    xid: int
    end_lsn: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class StreamAbort:
    """The streamed transaction, or only its subtransaction `subxid`, was rolled back."""

    xid: int
    subxid: int


ReplicationMessage = (
    Begin | Commit | Change | Relation | Type | Truncate | StreamStart | StreamStop | StreamCommit | StreamAbort
)


class Decoder:
    """Decodes the messages of one stream. It remembers the relations that changes refer to."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._streaming = False

    def decode(self, data: bytes) -> ReplicationMessage | None:
        """Decode the next message; None for kinds without rows. Raises BadReplicationMessage."""
        reader = _Reader(data)
        try:
            return self._decode(reader)
        except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
            raise BadReplicationMessage(f"{data[:16]!r}…: {error}") from error

    def _decode(self, reader: _Reader) -> ReplicationMessage | None:
        match reader.character():
            case "B":
                lsn, microseconds, xid = reader.unpack(">QqI")
                return Begin(lsn, _time(microseconds), xid)
            case "C":
                _, _, end_lsn, microseconds = reader.unpack(">BQQq")
                return Commit(end_lsn, _time(microseconds))
            case "R":
                self._xid(reader)
                relation = _relation(reader)
                self._relations[relation.oid] = relation
                return relation
            case "Y":
                self._xid(reader)
                (oid,) = reader.unpack(">I")
                return Type(oid, reader.string(), reader.string())
            case "I":
                return self._insert(reader)
            case "U":
                return self._update(reader)
            case "D":
                return self._delete(reader)
            case "T":
                return self._truncate(reader)
            case "S":
                xid, first = reader.unpack(">IB")
                self._streaming = True
                return StreamStart(xid, bool(first))
            case "E":
                self._streaming = False
                return StreamStop()
            case "c":
                xid, _, _, end_lsn, microseconds = reader.unpack(">IBQQq")
                return StreamCommit(xid, end_lsn, _time(microseconds))
            case "A":
                xid, subxid = reader.unpack(">II")
                return StreamAbort(xid, subxid)
            case _:
                return None

    def _xid(self, reader: _Reader) -> int | None:
        """Read the transaction's number, which a message has only within a streamed transaction."""
        return reader.unpack(">I")[0] if self._streaming else None

    def _insert(self, reader: _Reader) -> Change:
        xid = self._xid(reader)
        relation = self._relations[reader.unpack(">I")[0]]
        reader.character()
        return Change("INSERT", relation, _row(reader, relation), None, xid)

    def _update(self, reader: _Reader) -> Change:
        xid = self._xid(reader)
        relation = self._relations[reader.unpack(">I")[0]]
        old = None
        kind = reader.character()
        if kind in "KO":
            old = _old_row(reader, relation, kind)
            reader.character()
        return Change("UPDATE", relation, _row(reader, relation), old, xid)

    def _delete(self, reader: _Reader) -> Change:
        xid = self._xid(reader)
        relation = self._relations[reader.unpack(">I")[0]]
        return Change("DELETE", relation, None, _old_row(reader, relation, reader.character()), xid)

    def _truncate(self, reader: _Reader) -> Truncate:
        xid = self._xid(reader)
        count, options = reader.unpack(">IB")
        relations = tuple(self._relations[reader.unpack(">I")[0]] for _ in range(count))
        return Truncate(relations, bool(options & 1), bool(options & 2), xid)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def unpack(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return values

    def character(self) -> str:
        self._at += 1
        return chr(self._data[self._at - 1])

    def string(self) -> str:
        end = self._data.index(0, self._at)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text

    def text(self, length: int) -> str:
        if self._at + length > len(self._data):
            raise IndexError("the message is cut short")
        text = self._data[self._at : self._at + length].decode()
        self._at += length
        return text


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _relation(reader: _Reader) -> Relation:
    (oid,) = reader.unpack(">I")
    schema, table, identity = reader.string(), reader.string(), reader.character()
    (count,) = reader.unpack(">H")
    columns: list[RelationColumn] = []
    for _ in range(count):
        (flags,) = reader.unpack(">B")
        name = reader.string()
        type_oid, _ = reader.unpack(">Ii")
        columns.append(RelationColumn(name, type_oid, bool(flags & 1)))
    return Relation(oid, schema, table, identity, tuple(columns))


def _row(reader: _Reader, relation: Relation) -> dict[str, Value]:
    (count,) = reader.unpack(">H")
    row: dict[str, Value] = {}
    for column in relation.columns[:count]:
        match reader.character():
            case "n":
                row[column.name] = None
            case "u":
                row[column.name] = UNCHANGED
            case "t":
                (length,) = reader.unpack(">I")
                row[column.name] = reader.text(length)
            case other:
                raise BadReplicationMessage(f"a column of kind {other!r}")
    return row


def _old_row(reader: _Reader, relation: Relation, kind: str) -> dict[str, Value]:
    row = _row(reader, relation)
    if kind == "K":
        return {column.name: row[column.name] for column in relation.columns if column.in_identity}
    return row
