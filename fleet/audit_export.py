"""The audit log as a file: JSON lines, or CSV for a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import orjson

from onsembl.fleet.json_rows import OnFault, to_json
from onsembl.sql.audit_log import COLUMNS

Format = Literal["jsonl", "csv"]
MEDIA_TYPES: dict[Format, str] = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The beginnings of a cell that a spreadsheet treats as a formula (OWASP, CSV injection), full-width forms too."""


def head(format: Format) -> bytes:
    """The bytes before the first row."""
    return b"" if format == "jsonl" else _line(COLUMNS)


def line(row: Mapping[str, object], format: Format, on_fault: OnFault) -> bytes:
    """One row, with its line end; `on_fault` as in `to_json`."""
    if format == "jsonl":
        return to_json({name: row[name] for name in COLUMNS}, on_fault) + b"\n"
    return _line([_cell(row, name, on_fault) for name in COLUMNS])


def _cell(row: Mapping[str, object], name: str, on_fault: OnFault) -> str:
    value = row[name]
    if value is None:
        return ""
    if type(value) is datetime:
        return value.astimezone(UTC).isoformat()
    written = orjson.loads(to_json({"id": row["id"], name: value}, on_fault))[name]
    text = written if isinstance(written, str) else orjson.dumps(written).decode()
    return f"'{text}" if text.startswith(FORMULA) else text


def _line(cells: list[str] | tuple[str, ...]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()
