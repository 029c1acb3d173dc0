"""The formats and settings of the log."""

from __future__ import annotations

import json
import logging
import re
import sys

import click
import pytest
from support.log_levels import log_levels_kept

from onsembl.cli import logs
from onsembl.protocol import request_ids


def line(message="A %s", *arguments, level=logging.INFO, exc_info=None, **extra) -> dict:
    """The fields of a record that was formatted as JSON and parsed strictly."""
    logger = logging.getLogger("onsembl.tests")
    record = logger.makeRecord(logger.name, level, __file__, 1, message, arguments, exc_info, extra=extra)
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_line_has_the_standard_fields_and_those_of_extra():
    """A line has time, level, logger, message and the fields of `extra`, and no others."""
    fields = line("A %s", "thing", level=logging.WARNING, action="done", agent_id="1", n=2, of={"a": [1, None]})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    assert fields == {
        "level": "warning",
        "logger": "onsembl.tests",
        "message": "A thing",
        "action": "done",
        "agent_id": "1",
        "n": 2,
        "of": {"a": [1, None]},
    }


def test_a_line_has_the_request_id_while_a_request_is_handled():
    """Without a request the field is missing."""
    with request_ids.in_force("deploy-4711"):
        assert line("x")["request_id"] == "deploy-4711"
    assert "request_id" not in line("x")


def test_a_traceback_is_one_field():
    """A traceback's newlines are escaped."""
    try:
        json.loads("a\nb")
    except ValueError:
        fields = line("failed", exc_info=sys.exc_info())
    assert fields["exception"].startswith("Traceback")
    assert "\njson.decoder.JSONDecodeError: " in fields["exception"]


def test_a_message_cannot_forge_a_line_or_field():
    """Text of a client stays within the field `message`."""
    said = 'a\n{"level": "error"}\x1b[31m\u2028"'
    assert line("%s", said, path=said)["message"] == said
    assert line("x", path=said)["path"] == said


def test_extra_cannot_replace_a_standard_field():
    """Time, level and logger keep their values."""
    fields = line("x", level_of="a", time="never", logger="other")
    assert (fields["logger"], fields["level_of"]) == ("onsembl.tests", "a")
    assert fields["time"] != "never"


def test_values_without_a_json_type_are_written_as_text():
    """Infinity, an object, bytes, a lone surrogate and a list that contains itself."""
    knot: list = []
    knot.append(knot)
    assert line("x", n=float("inf"), m=1)["n"] == "inf"
    assert line("x", n=float("inf"), m=1)["m"] == 1
    assert line("x", what=b"ab")["what"] == "b'ab'"
    assert line("x", file="\udcff")["file"] == "\udcff"
    assert line("x", knot=knot)["knot"] == "[[...]]"


def test_a_test_leaves_the_levels_as_they_were():
    """The levels that a command in this process has set, a library's included, end with the test."""
    loggers = [logging.getLogger(name) for name in ("onsembl", "httpx")]
    before = [logger.level for logger in loggers]
    with log_levels_kept():
        logs.configure(logging.ERROR)
        assert [logger.level for logger in loggers] == [logging.ERROR, logging.WARNING] != before
    assert [logger.level for logger in loggers] == before


@pytest.mark.parametrize(
    ("environment", "formatter", "level"),
    [
        ({}, logs.TextFormatter, logging.WARNING),
        ({"ONSEMBL_LOG_FORMAT": "text"}, logs.TextFormatter, logging.WARNING),
        ({"ONSEMBL_LOG_FORMAT": "json"}, logs.JsonFormatter, logging.INFO),
        ({"ONSEMBL_LOG_FORMAT": "JSON", "ONSEMBL_LOG_LEVEL": "error"}, logs.JsonFormatter, logging.ERROR),
        ({"ONSEMBL_LOG_LEVEL": "debug"}, logs.TextFormatter, logging.DEBUG),
    ],
)
def test_the_settings_choose_format_and_level(monkeypatch, environment, formatter, level):
    """The level applies to our loggers; libraries stay at INFO or WARNING, because their details may be secret."""
    for name in logs.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # as a process begins
    logs.configure(logging.WARNING)
    assert type(root.handlers[0].formatter) is formatter
    assert logging.getLogger("onsembl.api").getEffectiveLevel() == level
    assert logging.getLogger("procrastinate").getEffectiveLevel() == max(level, logging.INFO)
    assert logging.getLogger("websockets.client").getEffectiveLevel() >= logging.WARNING


@pytest.mark.parametrize("name", logs.SETTINGS)
def test_an_unknown_setting_is_rejected(monkeypatch, name):
    """The error lists the valid values."""
    monkeypatch.setenv(name, "loud")
    with pytest.raises(click.ClickException, match=f"{name} is 'loud'; use .* or "):
        logs.configure(logging.INFO)


def test_a_line_of_text_ends_with_the_request_id():
    """Without a request the line has no id."""
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "said"})
    with request_ids.in_force("deploy-4711"):
        assert logs.TextFormatter("%(levelname)s %(message)s").format(record) == "INFO said (request deploy-4711)"
    assert logs.TextFormatter("%(levelname)s %(message)s").format(record) == "INFO said"


def test_hidden_characters_of_a_message_are_escaped_in_text():
    """A foreign text in the log of a terminal acts on nothing and begins no line; a traceback keeps its lines."""

    def fail() -> None:
        raise ValueError("\x1b[2J")

    try:
        fail()
    except ValueError:
        record = logging.LogRecord("x", logging.INFO, __file__, 1, "a %s", ("b\x1b]0;c\x07\nd\u202e",), sys.exc_info())
    first, *rest = logs.TextFormatter("%(message)s").format(record).split("\n")
    assert first == "a b\\x1b]0;c\\x07\\nd\\u202e"
    assert rest[-1] == "ValueError: \\x1b[2J" and len(rest) > 2
