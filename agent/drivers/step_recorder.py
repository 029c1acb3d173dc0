"""Makes steps of the events of a turn, for every coding CLI alike. No I/O and no clock."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from onsembl.agent.rendering.requests import request_text
from onsembl.agent.rendering.text import printable
from onsembl.protocol.reports import REPORT_STEP, read_report
from onsembl.protocol.request_events import RequestAnswered, RequestOpened, RequestWithdrawn
from onsembl.protocol.turn_events import (
    MessageChunk,
    MessageEnded,
    Notice,
    PermissionDenied,
    Plan,
    ReportSubmitted,
    Speaker,
    Steered,
    StructuredAnswer,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
)
from onsembl.protocol.turn_steps import MAX_STEP_TEXT, Step, StepKind

MAX_JSON_BYTES = MAX_STEP_TEXT * 3 // 2
"""The most bytes that a text takes as JSON, where quotes and line ends take two: two such texts fit into a message."""
_KINDS: dict[Speaker, StepKind] = {"agent": "message", "thought": "thought", "user": "input"}


class StepRecorder:
    """`record` returns the steps that an event has begun or changed, each in its newest revision.

    `start` and `end` are the offsets of the terminal's bytes that show the event.
    """

    def __init__(self) -> None:
        self._number = 0
        self._tools: dict[str, Step] = {}
        """The steps of tool calls that have no result yet, by the id of the call."""
        self._numbers: dict[str, int] = {}
        """The number of each tool call's step, for the steps below it."""
        self._requests: dict[UUID, Step] = {}
        """The steps of requests that wait for a person."""
        self._message: Step | None = None
        self._writing: tuple[str | None, Speaker] | None = None
        self._chunks: list[str] = []
        self._size = 0
        self._answers: list[str] = []
        """The messages since the last tool call, without those of subagents; or the answer that the CLI has held to a
        schema."""
        self._submitted: Step | None = None
        """The step of the report that the agent has submitted by a tool."""

    def record(self, event: TurnEvent, start: int, end: int, now: datetime) -> list[Step]:
        """The steps that the event has begun or changed."""
        if isinstance(event, MessageChunk):
            return self._chunk(event, start, end, now)
        # The end of a message shows its last word, which could have been longer.
        steps = self.close(end if isinstance(event, MessageEnded) else start, now)
        match event:
            case ToolCall():
                if event.parent is None:
                    self._answers = []
                step = self._new("tool", event, start, end, now)
                text, omitted = limited(event.arguments)
                step = msgspec.structs.replace(
                    step, name=short(event.name), tool_kind=event.kind, title=short(event.title), status="in_progress"
                )
                step = msgspec.structs.replace(step, text=text, text_omitted=omitted, ended_at=None)
                self._tools[event.id] = step
                self._numbers[event.id] = step.number
                steps.append(step)
            case ToolCallEnded() if event.id in self._tools:
                result, omitted = limited("\n".join([event.text, *(f"[image: {image}]" for image in event.images)]))
                status = "failed" if event.status == "failed" else "completed"
                steps.append(
                    msgspec.structs.replace(
                        _revised(self._tools.pop(event.id), end, now),
                        status=status,
                        result=result,
                        result_omitted=omitted,
                    )
                )
            case PermissionDenied() if event.tool_call in self._tools:
                step = _revised(self._tools[event.tool_call], end, now)
                self._tools[event.tool_call] = step = msgspec.structs.replace(
                    step, denied=True, status="failed", result=short(event.reason)
                )
                steps.append(step)
            case PermissionDenied():  # told after the call's result, as older versions of a CLI do
                step = self._texted("notice", short(event.name), event.title, event, start, end, now)
                steps.append(msgspec.structs.replace(step, denied=True, status="failed", result=short(event.reason)))
            case RequestOpened():
                step = self._texted("notice", "request", request_text(event.body), event, start, end, now)
                title = short(event.title)
                step = msgspec.structs.replace(step, title=title, status="in_progress", ended_at=None)
                self._requests[event.id] = step
                steps.append(step)
            case RequestAnswered() if event.id in self._requests:
                steps.append(self._close_request(event.id, event.text, end, now, denied=event.denied))
            case RequestWithdrawn() if event.id in self._requests:
                steps.append(self._close_request(event.id, event.reason, end, now))
            case Plan():
                text = "\n".join(f"{entry.status}: {entry.content}" for entry in event.entries)
                steps.append(self._texted("plan", "", text, event, start, end, now))
            case Steered():
                steps.append(self._texted("input", "steer", event.text, event, start, end, now))
            case Notice():
                steps.append(self._texted("notice", event.kind, event.text, event, start, end, now))
            case TurnEnded():
                step = self._texted("result", event.outcome, event.error or "", event, start, end, now)
                usage = event.usage
                step = msgspec.structs.replace(
                    step,
                    status="completed" if event.outcome == "completed" else "failed",
                    tokens=usage.tokens if usage is not None else None,
                    cost_usd=usage.cost_usd if usage is not None else None,
                )
                steps.append(step)
            case StructuredAnswer():
                self._answers = [event.text]
            case ReportSubmitted():
                steps += self._submit(event, end, now)
            case _:
                pass
        return steps

    def step_of(self, tool_call: str) -> int | None:
        """The number of a tool call's step."""
        return self._numbers.get(tool_call)

    def _close_request(self, id: UUID, text: str, end: int, now: datetime, *, denied: bool = False) -> Step:
        step = _revised(self._requests.pop(id), end, now)
        result, omitted = limited(text)
        return msgspec.structs.replace(
            step, status="failed" if denied else "completed", result=result, result_omitted=omitted, denied=denied
        )

    def close(self, end: int, now: datetime) -> list[Step]:
        """End a message of which more could have come."""
        if self._message is None:
            return []
        text, omitted = limited("".join(self._chunks))
        omitted += self._size - sum(len(chunk.encode(errors="replace")) for chunk in self._chunks)
        step = msgspec.structs.replace(
            _revised(self._message, end, now), status="completed", text=text, text_omitted=omitted, title=_title(text)
        )
        self._message = self._writing = None
        if step.kind == "message" and step.parent is None:
            self._answers.append(text)
        return [step]

    def end(self, end: int, now: datetime) -> list[Step]:
        """End every step that is open when the program has ended: its tools have no result."""
        steps = self.close(end, now)
        steps += [msgspec.structs.replace(_revised(step, end, now), status="failed") for step in self._tools.values()]
        steps += [self._close_request(id, "The program has ended.", end, now) for id in list(self._requests)]
        self._tools = {}
        return steps

    def report(self, end: int, now: datetime, *, asked: bool, completed: bool) -> list[Step]:
        """The step of the turn's report, after its end; none if it has no report. `asked` says that a completed turn
        was to answer with one.

        The answer is the last message if that is a report, else all that was said after the last tool call: a CLI may
        remind the model of the form, to which it answers without the content. A submitted report that fits better than
        the answer is the report; it stays a draft, with a failed step, if the turn was not completed.
        """
        text = self._answer() if asked and completed else None
        submitted = self._submitted
        if text is not None and (submitted is None or _fit(submitted.text) <= _fit(text)):
            step = self._new("message", None, end, end, now) if submitted is None else _revised(submitted, end, now)
            return [_with_report(msgspec.structs.replace(step, status="completed"), text)]
        if submitted is not None:
            status = "completed" if completed else "failed"
            return [msgspec.structs.replace(_revised(submitted, end, now), status=status)]
        return []

    def _answer(self) -> str | None:
        if not self._answers:
            return None
        last = self._answers[-1]
        return last if read_report(last).report is not None else "\n\n".join(self._answers)

    def _submit(self, event: ReportSubmitted, end: int, now: datetime) -> list[Step]:
        """The step of a submitted report, which replaces one that does not fit better."""
        if self._submitted is None:
            step = self._new("message", event, end, end, now)
        elif _fit(limited(event.text)[0]) >= _fit(self._submitted.text):
            step = _revised(self._submitted, end, now)
        else:
            return []
        self._submitted = _with_report(msgspec.structs.replace(step, status="in_progress", ended_at=None), event.text)
        return [self._submitted]

    def _chunk(self, event: MessageChunk, start: int, end: int, now: datetime) -> list[Step]:
        steps: list[Step] = []
        if self._message is None or self._writing != (event.parent, event.speaker):
            steps = self.close(start, now)
            text, omitted = limited(event.text)
            self._message = msgspec.structs.replace(
                self._new(_KINDS[event.speaker], event, start, end, now),
                status="in_progress",
                text=text,
                text_omitted=omitted,
                title=_title(text),
                ended_at=None,
            )
            self._writing = (event.parent, event.speaker)
            self._chunks, self._size = [], 0
            steps.append(self._message)
        if self._size <= MAX_STEP_TEXT:
            self._chunks.append(event.text)
        self._size += len(event.text.encode(errors="replace"))
        return steps

    def _new(self, kind: StepKind, event: TurnEvent | None, start: int, end: int, now: datetime) -> Step:
        self._number += 1
        return Step(
            number=self._number,
            revision=1,
            parent=self._numbers.get(event.parent) if event is not None and event.parent is not None else None,
            kind=kind,
            status="completed",
            started_at=now,
            ended_at=now,
            output_start=start,
            output_end=end,
        )

    def _texted(
        self, kind: StepKind, name: str, text: str, event: TurnEvent, start: int, end: int, now: datetime
    ) -> Step:
        shown, omitted = limited(text)
        return msgspec.structs.replace(
            self._new(kind, event, start, end, now), name=name, title=_title(shown), text=shown, text_omitted=omitted
        )


def _revised(step: Step, end: int, now: datetime) -> Step:
    return msgspec.structs.replace(
        step, revision=step.revision + 1, output_end=max(step.output_start, end), ended_at=now
    )


def _with_report(step: Step, report: str) -> Step:
    text, omitted = limited(report)
    title = short(read_report(text).title)
    return msgspec.structs.replace(step, name=REPORT_STEP, title=title, text=text, text_omitted=omitted)


def _fit(text: str) -> int:
    """How well a text fits the form of a report: it is one, it is JSON that does not fit, it is prose."""
    found = read_report(text)
    return 2 if found.report is not None else 1 if found.problem is not None else 0


def limited(text: str) -> tuple[str, int]:
    """The text without control characters, cut to the greatest length of a step's text; and the bytes that are cut."""
    data = text.encode(errors="replace")
    kept = data[:MAX_STEP_TEXT]
    while len(kept) * 2 > MAX_JSON_BYTES and len(msgspec.json.encode(kept.decode(errors="ignore"))) > MAX_JSON_BYTES:
        kept = kept[: len(kept) * 3 // 4]
    return printable(kept.decode(errors="ignore")), len(data) - len(kept)


def short(text: str) -> str:
    """The text on one line, for a field of 256 characters."""
    return " ".join(printable(text[:1024]).split())[:256]


def _title(text: str) -> str:
    """The first line that has text."""
    return short(text.lstrip()[:1024].partition("\n")[0])
