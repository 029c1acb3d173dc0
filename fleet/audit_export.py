"""The audit log as a file: JSON lines, or CSV for a spreadsheet. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from onsembl.fleet.csv_rows import MEDIA_TYPE as CSV
from onsembl.fleet.csv_rows import csv_cell, csv_line
from onsembl.fleet.json_rows import OnFault, to_json
from onsembl.sql.audit_log import COLUMNS

Format = Literal["jsonl", "csv"]
MEDIA_TYPES: dict[Format, str] = {"jsonl": "application/x-ndjson", "csv": CSV}


def head(format: Format) -> bytes:
    """The bytes before the first row."""
    return b"" if format == "jsonl" else csv_line(COLUMNS)


def line(row: Mapping[str, object], format: Format, on_fault: OnFault) -> bytes:
    """One row, with its line end; `on_fault` as in `to_json`."""
    if format == "jsonl":
        return to_json({name: row[name] for name in COLUMNS}, on_fault) + b"\n"
    return csv_line([csv_cell(row, name, on_fault) for name in COLUMNS])
