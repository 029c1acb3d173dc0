"""What a process writes to its log: lines for people, or JSON for programs (`ONSEMBL_LOG_FORMAT`)."""

from __future__ import annotations

import json
import logging
import math
import os
from datetime import UTC, datetime
from typing import Any

import click

from onsembl.protocol import request_ids

FORMAT, LEVEL = SETTINGS = ("ONSEMBL_LOG_FORMAT", "ONSEMBL_LOG_LEVEL")
FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
OUR_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
"""What every record has; the rest is what its `extra` has given it."""
CHATTY = ("httpx", "httpcore", "websockets")
"""They tell of each request, and at `debug` of its headers, tokens included."""


class TextFormatter(logging.Formatter):
    """A line for people; the id of the request comes last."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """As the format says, with the id if one is in force."""
        line = super().formatMessage(record)
        request_id = request_ids.current()
        return f"{line} (request {request_id})" if request_id is not None else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339), `level`, `logger`, `message`, `request_id` if one is in force, what
    `extra` says, and `exception`, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end. Whatever `extra` holds, there is one."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = request_ids.current()
        if request_id is not None:
            fields["request_id"] = request_id
        given = {name: value for name, value in vars(record).items() if name not in OUR_OWN and name not in fields}
        told = {}
        if record.exc_info and record.exc_info[0] is not None:
            told["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = record.stack_info
        try:
            return json.dumps(fields | given | told, allow_nan=False, skipkeys=True, default=str)
        except ValueError:  # infinity, or a structure within itself
            plain = {name: value if _plain(value) else repr(value) for name, value in given.items()}
            return json.dumps(fields | plain | told)


def _plain(value: object) -> bool:
    return isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value))


def configure(level: int, pattern: str = "%(asctime)s %(levelname)s %(name)s %(message)s") -> None:
    """Have this process's log written to standard error.

    As text, in this pattern, from `level` up; as JSON from INFO up, for a program can choose. `ONSEMBL_LOG_LEVEL`
    overrules both. Raises ClickException when a setting has no such value.
    """
    as_json = _chosen(FORMAT, FORMATS) == "json"
    asked = _chosen(LEVEL, LEVELS)
    if asked is not None:
        level = logging.getLevelNamesMapping()[asked.upper()]
    elif as_json:
        level = logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter(pattern))
    logging.captureWarnings(True)
    # What others say in detail may have secrets in it.
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler])
    logging.getLogger("onsembl").setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _chosen(name: str, known: tuple[str, ...]) -> str | None:
    value = os.environ.get(name)
    if not value:
        return None
    if value.lower() not in known:
        raise click.ClickException(f"{name} is {value!r}; it may be {', '.join(known[:-1])} or {known[-1]}.")
    return value.lower()
