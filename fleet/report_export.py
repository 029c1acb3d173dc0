"""Exports of a report: Markdown, JSON, and a page without scripts.

A report is foreign text. In Markdown its texts stand in quotes, with HTML and links shown as text; in the page HTML is
shown as text, and nothing is loaded.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from psycopg.rows import DictRow

from onsembl.fleet.json_rows import OnFault, to_json
from onsembl.protocol.reports import Evidence, Finding, Recommendation, Report
from onsembl.protocol.visible_text import visible, visible_lines

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

Format = Literal["markdown", "json", "html"]
MEDIA_TYPES: dict[Format, str] = {
    "markdown": "text/markdown; charset=utf-8",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}
SUFFIXES: dict[Format, str] = {"markdown": "md", "json": "json", "html": "html"}

_BACKTICKS = re.compile(r"`+")
_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_MARKS = re.compile(r"([\\`*_{}\[\]<>#|!~])")
_ACTS = re.compile(r"<|(?<=\])[(:\[]")
"""What begins HTML or the target of a link."""
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; margin-bottom: .25rem; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: 6px; font-size: 13px; }
.facts, .place { color: #777; font-size: 14px; } .severity { padding: 0 .4em; border-radius: 4px; background: #8883; }
.critical, .high { background: #c33; color: #fff; } .medium { background: #b60; color: #fff; }
li > p { margin: .25rem 0; }
"""


@dataclass(frozen=True, slots=True)
class Export:
    """Who exports a report when, and the name of the agent that wrote it."""

    by: str
    at: datetime
    agent: str


def exported(row: DictRow, export: Export, format: Format, on_fault: OnFault) -> bytes:
    """A report's row in this format. `on_fault` is called for each value that cannot be shown."""
    match format:
        case "markdown":
            return "\n".join([*_lines(row), "", "---", "", _escaped(_origin(row, export)), ""]).encode(errors="replace")
        case "json":
            return to_json(_json(row, export), on_fault)
        case "html":
            return _page(row, export).encode(errors="replace")


def report_text(row: DictRow) -> str:
    """A report's row as Markdown, for a prompt."""
    return "\n".join(_lines(row))


def _read(row: DictRow) -> Report | None:
    """The report; None when the answer is none, and for a row that cannot be read, whose answer is then shown."""
    try:
        return msgspec.convert(row["report"], Report) if row["report"] is not None else None
    except (msgspec.ValidationError, RecursionError):
        return None


def _origin(row: DictRow, export: Export) -> str:
    parts = [
        f"Report {row['id']}, version {row['version']}, by {export.agent} at {_time(row['created_at'])}.",
        f"Exported by {export.by} at {_time(export.at)}.",
    ]
    if row["text_omitted"]:
        parts.insert(1, f"The last {row['text_omitted']:,} bytes of the answer are missing.")
    return " ".join(parts)


def _time(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC" if type(value) is datetime else "an unreadable time"


def _json(row: DictRow, export: Export) -> Mapping[str, Any]:
    fields = ("id", "command_id", "agent_id", "conversation_id", "preset", "version", "created_at", "report", "problem")
    return {
        **{name: row[name] for name in fields},
        "agent": export.agent,
        "text": row["text"] if row["report"] is None else None,
        "text_omitted": row["text_omitted"],
        "exported_by": export.by,
        "exported_at": export.at,
    }


# Markdown


def _lines(row: DictRow) -> Iterator[str]:
    report = _read(row)
    if report is None:
        yield f"# {_escaped(row['title'])}"
        yield ""
        if row["problem"] is not None:
            yield f"The answer does not fit the form of a report: {_escaped(row['problem'])}"
            yield ""
            yield from _fenced(row["text"])
        else:
            yield from _quoted(row["text"])
        return
    yield f"# {_escaped(report.title)}"
    yield ""
    yield from _quoted(report.summary)
    if report.findings:
        yield from ("", "## Findings")
    for number, finding in enumerate(report.findings, start=1):
        yield from _finding_lines(number, finding)
    if report.recommendations:
        yield from ("", "## Recommendations")
    for number, recommendation in enumerate(report.recommendations, start=1):
        yield from ("", f"### {number}. {_escaped(recommendation.action)} ({recommendation.priority})")
        if recommendation.rationale:
            yield ""
            yield from _quoted(recommendation.rationale)


def _finding_lines(number: int, finding: Finding) -> Iterator[str]:
    yield from ("", f"### {number}. {_escaped(finding.title)} ({finding.severity})")
    if finding.description:
        yield ""
        yield from _quoted(finding.description)
    for evidence in finding.evidence:
        if place := _place(evidence):
            yield from ("", _escaped(place))
        if evidence.note:
            yield ""
            yield from _quoted(evidence.note)
        if evidence.excerpt:
            yield ""
            yield from _fenced(evidence.excerpt)


def _place(evidence: Evidence) -> str:
    if evidence.file is None:
        return ""
    return evidence.file if evidence.line is None else f"{evidence.file}:{evidence.line}"


def _escaped(text: str) -> str:
    """One line of plain text."""
    return _MARKS.sub(r"\\\1", visible(" ".join(text.split())))


def _fenced(text: str) -> Iterator[str]:
    """Code, within a fence that is longer than any in it."""
    shown = visible_lines(text)
    fence = "`" * max(3, *(len(run) + 1 for run in _BACKTICKS.findall(shown)), 3)
    yield fence
    yield from shown.split("\n")
    yield fence


def _quoted(markdown: str) -> Iterator[str]:
    """Foreign Markdown as a quote. Outside of fenced code, HTML and links are text."""
    fence = ""
    for line in visible_lines(markdown).split("\n"):
        found = _FENCE.fullmatch(line)
        if fence:
            inner = line
            if found and found["fence"].startswith(fence) and not found["info"].strip():
                fence = ""
        elif found and not (found["fence"][0] == "`" and "`" in found["info"]):
            inner, fence = f"{found['fence']}", found["fence"]
        else:
            inner = _ACTS.sub(lambda mark: f"\\{mark[0]}", line)
        yield f"> {inner}".rstrip()


# A page


def _page(row: DictRow, export: Export) -> str:
    report = _read(row)
    if report is not None:
        title, body = report.title, "".join(_sections(report))
    elif row["problem"] is not None:
        title = row["title"]
        body = f"<p>The answer does not fit the form of a report: {_text(row['problem'])}</p>{_code(row['text'])}"
    else:
        title, body = row["title"], _rendered(row["text"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>{body}"
        f'<p class="facts">{_text(_origin(row, export))}</p></body></html>\n'
    )


def _sections(report: Report) -> Iterator[str]:
    yield _rendered(report.summary)
    if report.findings:
        yield "<h2>Findings</h2>"
    for finding in report.findings:
        severity = f'<span class="severity {finding.severity}">{finding.severity}</span>'
        yield f"<h3>{severity} {_text(finding.title)}</h3>{_rendered(finding.description)}"
        for evidence in finding.evidence:
            if place := _place(evidence):
                yield f'<p class="place">{_text(place)}</p>'
            yield _rendered(evidence.note)
            if evidence.excerpt:
                yield _code(evidence.excerpt)
    if report.recommendations:
        yield f"<h2>Recommendations</h2><ol>{''.join(map(_item, report.recommendations))}</ol>"


def _item(recommendation: Recommendation) -> str:
    priority = f'<span class="severity {recommendation.priority}">{recommendation.priority}</span>'
    return f"<li>{priority} {_text(recommendation.action)}{_rendered(recommendation.rationale)}</li>"


def _text(text: str) -> str:
    return html.escape(visible_lines(text))


def _code(text: str) -> str:
    return f"<pre>{_text(text)}</pre>"


def _rendered(markdown: str) -> str:
    return _markdown().render(visible_lines(markdown))


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt  # few processes export a report, and the parser slows the start of each

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
