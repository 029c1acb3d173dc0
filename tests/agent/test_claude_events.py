"""Claude Code's structured output, as recorded from 2.1.197 and with unknown or invalid events."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onsembl.agent.drivers.claude.events import ClaudeEvents
from onsembl.protocol.messages import Usage

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.jsonl"))


def show(data: bytes, size: int = 2**30) -> tuple[str, ClaudeEvents]:
    """The text that is shown for output that arrives in pieces of this size."""
    events = ClaudeEvents()
    shown = b"".join(events.feed(data[at : at + size]) for at in range(0, len(data), size)) + events.end()
    return shown.decode(), events


def lines(*events: object) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def message(identity: str, *content: object, **usage: int) -> dict:
    return {"type": "assistant", "message": {"id": identity, "content": list(content), "usage": usage}}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_pieces_in_which_it_comes_make_no_difference(path):
    """A line may be cut at any byte, even within a character."""
    whole, events = show(path.read_bytes())
    for size in (1, 7, 4096):
        shown, other = show(path.read_bytes(), size)
        assert (shown, other.usage, other.error) == (whole, events.usage, events.error)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_an_answer_is_shown_once_whether_or_not_it_came_in_pieces(path):
    """The events of an older CLI, without partial messages, show the same text."""
    data = path.read_bytes()
    without = b"".join(line for line in data.splitlines(keepends=True) if b'"type":"stream_event"' not in line)
    assert show(without)[0].split("\x1b[2m")[:-1] == show(data)[0].split("\x1b[2m")[:-1]


def test_an_answer_is_seen_while_it_is_written():
    """Each word is shown when it arrives, before its block is complete."""
    events = ClaudeEvents()
    shown = [
        events.feed(line) for line in (TRANSCRIPTS[-1].parent / "words.jsonl").read_bytes().splitlines(keepends=True)
    ]
    assert [piece for piece in shown if piece.startswith(b"word")][:3] == [b"word0 ", b"word1 ", b"word2 "]


@pytest.mark.parametrize(
    ("name", "error", "tokens"),
    [
        ("tool", None, (200, 32)),
        ("tool_fails", None, (200, 28)),
        ("refused", None, (200, 50)),
        ("api_error", "API Error: 400 scripted failure", (0, 0)),
        ("interrupted", "aborted streaming", (100, 1)),
        ("tool_interrupted", "aborted tools", (100, 5)),
    ],
)
def test_the_end_of_a_run_is_known(name, error, tokens):
    """A run's error and usage are known at its end, even if it was interrupted."""
    _, events = show((TRANSCRIPTS[0].parent / f"{name}.jsonl").read_bytes())
    assert events.error == error
    assert events.usage is not None
    assert (events.usage.input_tokens, events.usage.output_tokens) == tokens


def test_usage_is_counted_once_a_message():
    """The usage of a message that comes in several lines is counted once, by its last line."""
    _, events = show(
        lines(
            message("a", text("x"), input_tokens=10, output_tokens=1),
            message("a", text("y"), input_tokens=10, output_tokens=5, cache_read_input_tokens=3),
            message("b", text("z"), input_tokens=20, output_tokens=2),
        )
    )
    assert events.usage == Usage(input_tokens=30, output_tokens=7, cache_read_tokens=3)


def test_without_a_word_of_usage_there_is_none():
    """Without a report of usage the usage is None, not zero."""
    assert show(b"")[1].usage is None
    assert show(lines({"type": "system", "subtype": "init", "model": "m"}))[1].usage is None


def test_long_results_of_tools_are_abridged():
    """A long result of a tool is cut to a number of lines and a length of each, with the number of omitted lines."""
    content = "\n".join(["x" * 5000, *map(str, range(100))])
    block = {"type": "tool_result", "content": [{"type": "text", "text": content}]}
    shown, _ = show(lines({"type": "user", "message": {"content": [block]}}))
    assert shown.count("\r\n") == 13
    assert "… 89 more lines" in shown
    assert len(shown) < 1000


def test_an_error_is_red_and_what_a_tool_is_asked_fits_on_a_line():
    """A failed tool's result is red, and a tool's arguments are shortened to one line."""
    shown, _ = show(
        lines(
            message("a", {"type": "tool_use", "name": "Bash", "input": {"command": "echo\n" + "x " * 500}}),
            message("b", {"type": "tool_use", "name": "Odd", "input": {"n": 1}}),
            {"type": "user", "message": {"content": [{"type": "tool_result", "content": "no", "is_error": True}]}},
        )
    )
    first, second, third, _ = shown.split("\r\n")
    assert len(first) < 260
    assert "echo x" in first
    assert '{"n":1}' in second
    assert third.startswith("\x1b[31m  no")


def test_agents_below_are_shown_whole():
    """Messages of subagents are shown whole, because the pieces of several would mix."""
    piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "half"}}
    below = {"type": "stream_event", "event": piece, "parent_tool_use_id": "t"}
    whole = {**message("s", text("whole")), "parent_tool_use_id": "t"}
    assert show(lines(below, whole))[0] == "whole\r\n"


def test_the_model_cannot_move_the_cursor():
    """No escape sequence of an answer, a tool or an error reaches the terminal."""
    evil = "a\x1b]52;c;aGk=\x07\x1b[2Jb\x9b1m"
    shown, events = show(
        lines(
            {"type": "system", "subtype": "init", "model": evil, "cwd": evil},
            message("a", text(evil), {"type": "tool_use", "name": evil, "input": {"command": evil}}),
            {"type": "user", "message": {"content": [{"type": "tool_result", "content": evil}]}},
            {"type": "result", "is_error": True, "result": evil},
        )
    )
    assert events.error is not None
    assert not {"\x07", "\x9b"} & set(shown)
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown


def test_what_is_not_json_is_shown_as_it_is():
    """A line that is not JSON is shown unchanged, such as a message of the CLI or of a wrapper."""
    assert show(b"npm warn something\n[1, 2]\n\nthe end")[0] == "npm warn something\r\nthe end\r\n"


@pytest.mark.timeout(20)
def test_a_line_may_be_long():
    """The time to read a long line, such as an image in a tool's result, grows linearly with its length."""
    data = lines(message("a", text("x" * 20_000_000)))
    shown, _ = show(data, 65536)
    assert len(shown) == 20_000_002


def places(value: object) -> list[tuple[dict | list, str | int]]:
    """Every position in a JSON value at which another value could be."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inner for found in [(value, key), *places(part)]]


RECORDED = [line for path in TRANSCRIPTS for line in path.read_bytes().splitlines() if len(line) < 3000]
OTHER = [None, True, -1, 2**70, 0.5, "", "x\x1b[31m", [], [None], ["x"], {}, {"type": "text"}]


@example([(lines({"type": "result", "num_turns": 1, "duration_ms": 1}).strip(), 1, True)])
@example([(lines({"type": "result", "num_turns": 1, "duration_ms": 1}).strip(), 2, 2**70)])
@given(st.lists(st.tuples(st.sampled_from(RECORDED), st.integers(0, 200), st.sampled_from(OTHER)), max_size=4))
def test_nothing_that_a_later_version_says_breaks_it(changes):
    """A field of an unexpected type or value still shows a text and leaves the usage valid."""
    events = []
    for line, place, value in changes:
        events.append(json.loads(line))
        found = places(events[-1])
        holder, key = found[place % len(found)]
        holder[key] = value
    _, told = show(lines(*events))
    assert isinstance(told.error, str | None)
    if told.usage is not None:
        assert msgspec.json.decode(msgspec.json.encode(told.usage), type=Usage) == told.usage
