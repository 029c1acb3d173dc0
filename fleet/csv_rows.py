"""Writes rows as CSV for a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from onsembl.fleet.json_rows import OnFault, to_json

MEDIA_TYPE = "text/csv; charset=utf-8"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The beginnings of a cell that a spreadsheet treats as a formula (OWASP, CSV injection), full-width forms too."""


def csv_cell(row: Mapping[str, object], name: str, on_fault: OnFault, identity: str = "id") -> str:
    """The text of a value of a row; `on_fault` as in `to_json`, with the row's value of the column `identity`."""
    value = row[name]
    if value is None:
        return ""
    if type(value) is datetime:
        return value.astimezone(UTC).isoformat()
    written = orjson.loads(to_json({"id": row[identity], name: value}, on_fault))[name]
    text = written if isinstance(written, str) else orjson.dumps(written).decode()
    return f"'{text}" if text.startswith(FORMULA) else text


def csv_line(cells: Sequence[str]) -> bytes:
    """The cells as a line, with its end."""
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()
