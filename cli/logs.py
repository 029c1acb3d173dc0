"""The log of a process: text for people, or JSON for programs (`ONSEMBL_LOG_FORMAT`)."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from onsembl.protocol import request_ids
from onsembl.protocol.visible_text import visible, visible_lines

FORMAT, LEVEL = SETTINGS = ("ONSEMBL_LOG_FORMAT", "ONSEMBL_LOG_LEVEL")
FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
STANDARD_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
"""The attributes of every log record. All others come from the call's `extra`."""
VERBOSE_LIBRARIES = ("httpx", "httpcore", "websockets")
"""Libraries that log each request, and at `debug` its headers with tokens."""


class TextFormatter(logging.Formatter):
    """Formats a record as text, with the request id at the end. Hidden characters of foreign texts are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of the record. Only a traceback has several."""
        return visible_lines(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of the message, with the request id if there is one."""
        line = visible(super().formatMessage(record))
        request_id = request_ids.current()
        return f"{line} (request {request_id})" if request_id is not None else line


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    The fields are `time` (RFC 3339), `level`, `logger`, `message`, `request_id` if there is one, the fields of `extra`,
    and `exception` with the traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line without its newline. Values in `extra` that JSON cannot express are written as text."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = request_ids.current()
        if request_id is not None:
            fields["request_id"] = request_id
        extra = {
            name: value for name, value in vars(record).items() if name not in STANDARD_FIELDS and name not in fields
        }
        details: dict[str, str] = {}
        if record.exc_info and record.exc_info[0] is not None:
            details["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            details["stack"] = record.stack_info
        try:
            return json.dumps(fields | extra | details, allow_nan=False, skipkeys=True, default=str)
        except ValueError:  # infinity, or a structure that contains itself
            plain = {name: value if _plain(value) else repr(value) for name, value in extra.items()}
            return json.dumps(fields | plain | details)


def _plain(value: object) -> bool:
    return isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value))


class _PartName(logging.Filter):
    """Adds the name of this process to each record."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def filter(self, record: logging.LogRecord) -> bool:
        record.process_name = self._part
        return True


def configure(
    level: int,
    pattern: str = "%(asctime)s %(levelname)s %(name)s %(message)s",
    informs: Sequence[str] = (),
    part: str | None = None,
) -> None:
    """Write this process's log to standard error.

    The log is text in the format `pattern` from `level` up, or JSON from INFO up; of the loggers in `informs` always
    from INFO up. `part` names this process in each line, among those of one command. `ONSEMBL_LOG_LEVEL` overrides the
    level of all. Raises ClickException when a setting has an unknown
    value.
    """
    as_json = _chosen(FORMAT, FORMATS) == "json"
    chosen = _chosen(LEVEL, LEVELS)
    if chosen is not None:
        level = logging.getLevelNamesMapping()[chosen.upper()]
    elif as_json:
        level = logging.INFO
    handler = logging.StreamHandler()
    if part is not None:
        handler.addFilter(_PartName(part))
        pattern = f"{pattern} (%(process_name)s)"
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter(pattern))
    logging.captureWarnings(True)
    # Debug messages of libraries may contain secrets.
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler])
    logging.getLogger("onsembl").setLevel(level)
    for name in informs if chosen is None else ():
        logging.getLogger(name).setLevel(min(level, logging.INFO))
    for name in VERBOSE_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def _chosen(name: str, known: tuple[str, ...]) -> str | None:
    value = os.environ.get(name)
    if not value:
        return None
    if value.lower() not in known:
        raise click.ClickException(f"{name} is {value!r}; use {', '.join(known[:-1])} or {known[-1]}.")
    return value.lower()
