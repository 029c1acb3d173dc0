"""Reports of investigations: what an agent found, in a form that can be read, compared and exported.

An agent writes a report as JSON: by its CLI's own means where the CLI holds an answer to a schema (`SCHEMA`), else at
the end of its answer. What it wrote is kept as it is; `read_report` says what is in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import NO_NUL, Bounded
from onsembl.protocol.json_input import InputError, decode

Severity = Literal["critical", "high", "medium", "low", "info"]
Urgency = Literal["high", "medium", "low"]

REPORT_STEP = "report"
"""The name of the step of a turn whose text is its report."""
MAX_FINDINGS, MAX_EVIDENCE, MAX_RECOMMENDATIONS = 500, 50, 200

Line = Annotated[str, Meta(max_length=500, pattern=NO_NUL)]
Prose = Annotated[str, Meta(max_length=20_000, pattern=NO_NUL)]
FilePath = Annotated[str, Meta(max_length=1024, pattern=NO_NUL)]
FileLine = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Evidence(Bounded, frozen=True, kw_only=True):
    """What supports a finding: an excerpt of a file, which begins at `line`, or of a program's output, and a note."""

    file: FilePath | None = None
    line: FileLine | None = None
    excerpt: Prose = ""
    note: Prose = ""


class Finding(Bounded, frozen=True, kw_only=True):
    """One thing that was found. `description` is markdown. `step` is the number of a step of the turn that shows it."""

    title: Line
    severity: Severity
    description: Prose = ""
    evidence: Annotated[list[Evidence], Meta(max_length=MAX_EVIDENCE)] = []
    step: FileLine | None = None


class Recommendation(Bounded, frozen=True, kw_only=True):
    """One thing to do, and why."""

    action: Line
    priority: Urgency
    rationale: Prose = ""


class Report(Bounded, frozen=True, kw_only=True):
    """A report. `summary` is markdown."""

    title: Line
    summary: Prose
    findings: Annotated[list[Finding], Meta(max_length=MAX_FINDINGS)] = []
    recommendations: Annotated[list[Recommendation], Meta(max_length=MAX_RECOMMENDATIONS)] = []


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What an agent wrote for a report. Without a `report` it is prose; with a `problem`, JSON that does not fit."""

    title: str
    report: Report | None = None
    problem: str | None = None


_decoder = msgspec.json.Decoder(Report)
_any_decoder = msgspec.json.Decoder(object)
_FENCED = re.compile(r"^(`{3,}|~{3,})[ \t]*(?:json[ \t]*)?\n(?P<text>\{.*?)(?:^\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
"""A block of JSON; a cut answer does not close it. It takes linear time: an agent's answer is foreign text."""


def read_report(text: str) -> ReadReport:
    """Read a report: JSON, or an answer whose last block of JSON is one, or prose."""
    blocks = [match["text"] for match in _FENCED.finditer(text)]
    whole = text.strip()
    candidate = whole if whole.startswith("{") else blocks[-1] if blocks else None
    if candidate is None or not (_is_meant(candidate) or (candidate is whole and _is_object(whole))):
        return ReadReport(title_of(text))
    try:
        report = decode(_decoder, candidate)
    except InputError as error:
        return ReadReport(title_of(text), problem=str(error))
    return ReadReport(report.title, report=report)


def title_of(text: str) -> str:
    """The first heading or line of a text, without its marks, for a list."""
    lines = (" ".join(line.strip("#*_`> \t").split()) for line in text.splitlines())
    return next((line[:200] for line in lines if line and line not in ("json", "{")), "Report without a title")


def _is_meant(candidate: str) -> bool:
    """Whether JSON is meant for a report: an answer may quote other JSON."""
    return '"findings"' in candidate or '"summary"' in candidate


def _is_object(text: str) -> bool:
    try:
        return isinstance(decode(_any_decoder, text), dict)
    except InputError:
        return False


def _object(**properties: object) -> dict[str, Any]:
    """An object as vendors' strict schemas want it: every property is required, others are not allowed."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


SCHEMA: dict[str, Any] = _object(
    title=_text("One line: what was investigated, and the result."),
    summary=_text("The answer in a few sentences, as markdown. The most important thing comes first."),
    findings={
        "type": "array",
        "description": "What was found, the most serious first.",
        "items": _object(
            title=_text("One line."),
            severity={"type": "string", "enum": list(Severity.__args__)},
            description=_text("What is wrong or was found, when it happens and what follows from it, as markdown."),
            evidence={
                "type": "array",
                "items": _object(
                    file={"type": ["string", "null"], "description": "Path, relative to the working folder."},
                    line={"type": ["integer", "null"], "description": "The line at which the excerpt begins."},
                    excerpt=_text("Lines of the file, or of a program's output, exactly as they are."),
                    note=_text("What the excerpt shows."),
                ),
            },
        ),
    },
    recommendations={
        "type": "array",
        "items": _object(
            action=_text("One line: what to do."),
            priority={"type": "string", "enum": list(Urgency.__args__)},
            rationale=_text("Why, and what it costs or risks."),
        ),
    },
)
"""The JSON schema for coding CLIs: what it allows is a `Report`, but for bounds, which not every vendor takes."""

INSTRUCTION = (
    "End your answer with the report as one JSON object in a block that begins with ```json. Its schema is:\n"
    + msgspec.json.encode(SCHEMA).decode()
)
"""What is added to a prompt for a CLI that does not hold an answer to a schema itself."""
