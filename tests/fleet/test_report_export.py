"""Exports of reports, with content that would act on whoever opens them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from onsembl.fleet.report_export import Export, exported, report_text
from onsembl.protocol.reports import read_report

EXPORT = Export(by="ann@example.org", at=datetime(2026, 1, 2, tzinfo=UTC), agent="builder")
FAULTS: list[str] = []
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://example.org/track.png)",
    "[x]: javascript:alert(1)\n\n[x]",
    "```\n</pre><script>x</script>",
    "`` ` `` ``` ````\n<b>",
    "> - ```\n<iframe src=//evil></iframe>",
    "\\`<script>x</script>`",
    "abc\u202edcba\u2066",
    "a\r\n# heading\n---\n| a |\n|--|",
    "<javascript:alert(1)>",
    "&lt;script&gt; &#60;script&#62;",
]
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "code", "span"),
    *("ol", "ul", "li", "em", "strong", "s", "blockquote", "hr", "br", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def row(report: dict | None, text: str = "") -> dict:
    found = read_report(json.dumps(report)) if report is not None else read_report(text)
    return {
        "id": "0b0e",
        "command_id": None,
        "agent_id": None,
        "conversation_id": None,
        "preset": "Review",
        "version": 2,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "title": found.title,
        "problem": found.problem,
        "report": msgspec.to_builtins(found.report) if found.report is not None else None,
        "text": text,
        "text_omitted": 0,
    }


def filled(text: str) -> dict:
    """A report with this text in every field."""
    return {
        "title": text,
        "summary": text,
        "findings": [
            {
                "title": text,
                "severity": "high",
                "description": text,
                "evidence": [{"file": text, "line": 3, "excerpt": text, "note": text}],
            }
        ],
        "recommendations": [{"action": text, "priority": "low", "rationale": text}],
    }


class Tags(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def assert_harmless(page: str) -> None:
    for tag, attributes in Tags(page).found:
        assert tag in ALLOWED, (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert not any(name in attributes for name in ("src", "style", "srcdoc")), (tag, attributes)
        assert (attributes.get("href") or "").partition(":")[0].lower() not in ("javascript", "data", "vbscript")


@given(st.sampled_from(HOSTILE) | st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join) | st.text(max_size=60))
def test_hostile_content_stays_text(text):
    """The page has no element, attribute or link that acts, and Markdown none at all when it is rendered with HTML on,
    for a report, for prose, and for an answer that does not fit."""
    for one in (row(filled(text.replace("\0", ""))), row(None, text), row(None, '{"findings": 1}' + text)):
        page = exported(one, EXPORT, "html", FAULTS.append).decode()
        assert_harmless(page)
        assert "\u202e" not in page
        markdown = exported(one, EXPORT, "markdown", FAULTS.append).decode()
        assert "\u202e" not in markdown
        rendered = MarkdownIt("commonmark", {"html": True}).render(markdown)
        assert_harmless(rendered)
        assert not any(tag in ("a", "img") for tag, _ in Tags(rendered).found)


@pytest.mark.parametrize("text", ["plain", *HOSTILE])
def test_a_report_keeps_its_order_and_its_words(text):
    """Each export says who exported it when; JSON has every field as it was."""
    one = row(filled(text))
    exports = {format: exported(one, EXPORT, format, FAULTS.append).decode() for format in ("markdown", "html", "json")}
    for export in exports.values():
        assert "ann@example.org" in export.replace("\\", "") and "2026-01-02" in export
    assert json.loads(exports["json"])["report"]["findings"][0]["evidence"][0]["excerpt"] == text
    for form in ("markdown", "html"):
        assert exports[form].index("Findings") < exports[form].index("Recommendations")
    assert ":3" in exports["markdown"].replace("\\", "")


def test_a_code_block_keeps_what_is_in_it():
    """Code in Markdown is shown as it is, also with a fence in it."""
    report = filled("x")
    report["findings"][0]["evidence"][0]["excerpt"] = "a <b>\n```\nc"
    report["summary"] = "Before\n```python\nif a < b:\n```\nafter <b>"
    text = report_text(row(report))
    assert "\n````\na <b>\n```\nc\n````" in text
    assert "> ```\n> if a < b:\n> ```\n> after \\<b>" in text
