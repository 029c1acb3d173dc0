"""Recordings in asciinema's formats, event by event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.asciicast import Asciicast

BEGAN = datetime(2026, 5, 5, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def lines(data: bytes) -> list:
    return [json.loads(line) for line in data.splitlines()]


def test_a_v3_recording_has_a_term_and_intervals():
    """A v3 header has `term`, and each event has the interval since the event before it."""
    cast = Asciicast(3, BEGAN, 80, 24, "ls")
    data = cast.head() + cast.output(at(0.5), b"a") + cast.resize(at(2), 100, 30) + cast.marker(at(2), "make")
    head, *events = lines(data + cast.output(at(3.25), b"\x1b[31mb\r\n"))
    assert head["version"] == 3 and head["term"] == {"cols": 80, "rows": 24, "type": "xterm-256color"}
    assert head["timestamp"] == int(BEGAN.timestamp()) and head["title"] == "ls"
    assert events == [[0.5, "o", "a"], [1.5, "r", "100x30"], [0.0, "m", "make"], [1.25, "o", "\x1b[31mb\r\n"]]


def test_a_v2_recording_has_width_and_times_since_the_beginning():
    """A v2 header has `width` and `height`, and each event has the time since the beginning."""
    cast = Asciicast(2, BEGAN, 80, 24, "ls")
    head, *events = lines(cast.head() + cast.output(at(0.5), b"a") + cast.output(at(3.25), b"b"))
    assert (head["version"], head["width"], head["height"]) == (2, 80, 24)
    assert events == [[0.5, "o", "a"], [3.25, "o", "b"]]


def test_times_never_go_back_and_intervals_do_not_drift():
    """A clock that is set back loses no event, and a thousand rounded intervals add up to the exact time."""
    cast = Asciicast(3, BEGAN, 80, 24, "")
    assert lines(cast.output(at(2), b"a") + cast.output(at(1), b"b")) == [[2.0, "o", "a"], [0.0, "o", "b"]]
    total = sum(lines(cast.output(at(2 + n / 3000), b"x"))[0][0] for n in range(3001))
    assert total == pytest.approx(1.0)


def test_a_size_that_is_said_again_is_no_event():
    """Only a changed size is an event."""
    cast = Asciicast(3, BEGAN, 80, 24, "")
    assert cast.resize(at(1), 80, 24) == b""


@given(st.text(), st.lists(st.integers(1, 5)))
def test_characters_cut_between_chunks_come_out_whole(text, cuts):
    """Characters that are cut between chunks are joined, for all chunk sizes."""
    data, cast, seen = text.encode("utf-8", "surrogatepass"), Asciicast(2, BEGAN, 80, 24, ""), b""
    for cut in [*cuts, len(data)]:
        seen += cast.output(at(0), data[:cut])
        data = data[cut:]
    seen += cast.end()
    assert "".join(event[2] for event in lines(seen)) == text


@given(st.lists(st.binary(), max_size=5))
def test_any_bytes_make_a_valid_recording(chunks):
    """Invalid UTF-8 is replaced as a terminal replaces it, so any bytes make a valid recording."""
    cast = Asciicast(3, BEGAN, 80, 24, "")
    data = cast.head() + b"".join(cast.output(at(n), chunk) for n, chunk in enumerate(chunks)) + cast.end()
    text = "".join(event[2] for event in lines(data)[1:])
    assert text == b"".join(chunks).decode("utf-8", "replace")


def test_another_terminal_begins_with_a_reset():
    """A reset begins the next terminal, and a character that was cut before it is not joined with bytes after it."""
    cast = Asciicast(2, BEGAN, 80, 24, "")
    data = cast.output(at(0), b"a\xc3") + cast.reset(at(1)) + cast.output(at(1), b"\xa4")
    assert "".join(event[2] for event in lines(data)) == "a\ufffd\x1bc\ufffd"
