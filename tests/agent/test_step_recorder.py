"""Steps of the events of a turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from agent.test_claude_translator import NAMES, recorded, translate

from onsembl.agent.drivers.step_recorder import StepRecorder
from onsembl.protocol.messages import MAX_MESSAGE_BYTES
from onsembl.protocol.turn_events import (
    MessageChunk,
    MessageEnded,
    Notice,
    PermissionDenied,
    ReportSubmitted,
    StructuredAnswer,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
)
from onsembl.protocol.turn_steps import MAX_STEP_TEXT, Step, Steps
from onsembl.protocol.usage import Usage

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def record(*events: TurnEvent) -> list[Step]:
    """Every record of these events, the n-th of which is shown by the bytes from 10 n to 10 n + 10 at second n."""
    recorder = StepRecorder()
    steps = [
        step
        for place, event in enumerate(events)
        for step in recorder.record(event, place * 10, place * 10 + 10, BEGAN + timedelta(seconds=place))
    ]
    return [*steps, *recorder.end(len(events) * 10, BEGAN + timedelta(seconds=len(events)))]


def newest(steps: list[Step]) -> list[Step]:
    """The last record of each step."""
    return list({step.number: step for step in steps}.values())


def call(identity: str, **fields: object) -> ToolCall:
    return ToolCall(id=identity, name="Bash", kind="execute", title="ls", arguments='{"command":"ls"}', **fields)


def ended(identity: str, text: str = "out") -> ToolCallEnded:
    return ToolCallEnded(id=identity, status="completed", text=text)


def test_a_message_is_one_step():
    """Its pieces are put together; it is seen when it begins, and whole when it ends."""
    pieces = [MessageChunk(speaker="agent", text=text) for text in ("Hel", "lo\nworld")]
    begun, whole = record(*pieces, MessageEnded())
    assert (begun.number, begun.revision, begun.status, begun.text) == (1, 1, "in_progress", "Hel")
    assert (whole.number, whole.revision, whole.status, whole.text) == (1, 2, "completed", "Hello\nworld")
    assert (whole.title, whole.output_start, whole.output_end) == ("Hello", 0, 30)
    assert whole.ended_at == BEGAN + timedelta(seconds=2)


def test_messages_of_several_speakers_are_several_steps():
    """A thought, an answer, and an answer of a subagent below its call."""
    steps = newest(
        record(
            call("a"),
            MessageChunk(speaker="thought", text="hm"),
            MessageChunk(speaker="agent", text="so"),
            MessageChunk(speaker="agent", text="below", parent="a"),
        )
    )
    assert [(step.kind, step.text, step.parent) for step in steps[1:]] == [
        ("thought", "hm", None),
        ("message", "so", None),
        ("message", "below", 1),
    ]


def test_a_tool_call_has_its_result():
    """Calls side by side each have their own; a call without a result has failed."""
    steps = newest(record(call("a"), call("b"), call("c"), ended("b", "two"), ended("a", "one")))
    assert [(step.name, step.status, step.result) for step in steps] == [
        ("Bash", "completed", "one"),
        ("Bash", "completed", "two"),
        ("Bash", "failed", ""),
    ]
    assert (steps[0].text, steps[0].output_start, steps[0].output_end) == ('{"command":"ls"}', 0, 50)


def test_a_denied_call_stays_denied():
    """The result that the CLI gives the model in its place does not undo that."""
    denied = PermissionDenied(tool_call="a", name="Bash", title="ls", reason="nobody could be asked")
    steps = record(call("a"), denied, ToolCallEnded(id="a", status="failed", text="Nobody can be asked."))
    assert [(step.revision, step.denied, step.status) for step in steps] == [
        (1, False, "in_progress"),
        (2, True, "failed"),
        (3, True, "failed"),
    ]


def test_a_denial_that_comes_after_the_result_is_a_step():
    """Some versions of a CLI tell it only at the end of the turn."""
    denied = PermissionDenied(tool_call="a", name="Bash", title="rm x", reason="not allowed")
    step = newest(record(call("a"), ended("a"), denied))[-1]
    assert (step.kind, step.name, step.title, step.denied, step.result) == (
        "notice",
        "Bash",
        "rm x",
        True,
        "not allowed",
    )


def test_the_end_of_a_turn_is_a_step():
    """It has the tokens and the cost so far, and the error."""
    usage = Usage(input_tokens=5, output_tokens=2, cost_usd=0.5)
    [end] = record(TurnEnded(outcome="failed", error="API Error", seconds=1, usage=usage))
    assert (end.kind, end.name, end.status, end.title) == ("result", "failed", "failed", "API Error")
    assert (end.tokens, end.cost_usd) == (7, 0.5)


def test_a_long_text_says_how_much_is_missing():
    """The stored part of a message, of a result and of a notice has a greatest length, in bytes."""
    long = "é" * MAX_STEP_TEXT
    chunks = [MessageChunk(speaker="agent", text=long) for _ in range(3)]
    steps = newest(record(*chunks, call("a"), ended("a", long), Notice(kind="information", text=long)))
    message, tool, notice = steps
    assert len(message.text.encode()) == len(tool.result.encode()) == len(notice.text.encode()) == MAX_STEP_TEXT
    assert message.text_omitted == 5 * MAX_STEP_TEXT
    assert tool.result_omitted == notice.text_omitted == MAX_STEP_TEXT


def test_a_step_fits_into_a_message():
    """Quotes and line ends take two bytes each in JSON."""
    quotes = '"\n' * MAX_STEP_TEXT
    [step] = newest(record(ToolCall(id="a", name="x", kind="other", title="", arguments=quotes), ended("a", quotes)))
    assert len(msgspec.json.encode(step)) < MAX_MESSAGE_BYTES
    assert len(step.text) + step.text_omitted == len(quotes)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_run_makes_valid_steps(name):
    """Numbers count up, revisions of a step too, parents come before; every step ends, and has a valid form."""
    steps = record(*translate(recorded(name))[0])
    seen: dict[int, Step] = {}
    for step in steps:
        assert step.number == len(seen) + 1 or step.revision == seen[step.number].revision + 1
        assert step.parent is None or step.parent in seen
        seen[step.number] = step
    assert all(step.status in ("completed", "failed") and step.ended_at is not None for step in seen.values())
    if steps:
        message = Steps(command_id="00000000-0000-0000-0000-000000000000", through=1, steps=steps[:100])  # type: ignore[arg-type]
        assert msgspec.json.decode(msgspec.json.encode(message), type=Steps).steps == steps[:100]


def said(text: str, parent: str | None = None) -> list[TurnEvent]:
    return [MessageChunk(speaker="agent", text=text, parent=parent), MessageEnded(parent=parent)]


REPORT = '{"title": "t", "summary": "s"}'


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (
            [*said("I look."), call("1"), ended("1"), *said("It is the cache."), *said("Sure.")],
            "It is the cache.\n\nSure.",
        ),
        ([*said("Here it is."), *said(REPORT)], REPORT),
        ([*said("Done."), StructuredAnswer(text=REPORT)], REPORT),
        ([*said("Done."), call("1"), *said("of a subagent", parent="1")], None),
        ([], None),
    ],
)
def test_the_answer_of_a_turn_is_its_report(events, text):
    """The report is what was said after the last tool call, or what the CLI has held to a schema."""
    recorder = StepRecorder()
    for event in events:
        recorder.record(event, 0, 0, BEGAN)
    recorder.end(0, BEGAN)
    steps = recorder.report(7, BEGAN, asked=True, completed=True)
    assert [(step.name, step.text, step.output_start) for step in steps] == ([("report", text, 7)] if text else [])


OTHER = '{"title": "o", "summary": "s"}'
UNFIT = '{"title": 1, "summary": "s"}'


@pytest.mark.parametrize(
    ("submitted", "answer", "asked", "completed", "text", "status"),
    [
        ([REPORT], "I have submitted it.", True, True, REPORT, "completed"),
        ([REPORT], "I have submitted it.", False, True, REPORT, "completed"),
        ([REPORT, OTHER], None, False, True, OTHER, "completed"),
        ([REPORT, UNFIT], None, True, True, REPORT, "completed"),
        ([UNFIT, REPORT], UNFIT, True, True, REPORT, "completed"),
        ([UNFIT], "It does not work.", True, True, UNFIT, "completed"),
        ([REPORT], OTHER, True, True, OTHER, "completed"),
        ([REPORT], OTHER, False, True, REPORT, "completed"),
        ([REPORT], OTHER, True, False, REPORT, "failed"),
    ],
)
def test_a_submitted_report_is_a_draft_until_the_turn_ends(submitted, answer, asked, completed, text, status):
    """One step has it, which the next one replaces unless it fits worse; so does the answer of a turn that was asked
    for a report. A turn that was not completed leaves the draft."""
    recorder = StepRecorder()
    steps = [step for one in submitted for step in recorder.record(ReportSubmitted(text=one), 0, 0, BEGAN)]
    assert {step.status for step in steps} == {"in_progress"}
    for event in said(answer) if answer is not None else []:
        recorder.record(event, 0, 0, BEGAN)
    assert recorder.end(0, BEGAN) == []
    [last] = recorder.report(7, BEGAN, asked=asked, completed=completed)
    assert (last.name, last.text, last.status) == ("report", text, status)
    assert [(step.number, step.revision) for step in [*steps, last]] == [(1, n + 1) for n in range(len(steps) + 1)]
