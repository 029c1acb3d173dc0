"""Reading reports: JSON, the last block of an answer, prose, and whatever else an agent may write."""

from __future__ import annotations

import json
import time

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.reports import SCHEMA, Report, read_report

REPORT = {
    "title": "The cache is never cleared",
    "summary": "It grows by one entry a request.",
    "findings": [
        {
            "title": "No entry is ever removed",
            "severity": "high",
            "description": "`put` has no counterpart.",
            "evidence": [{"file": "src/cache.py", "line": 12, "excerpt": "cache[key] = value", "note": "the only use"}],
        }
    ],
    "recommendations": [{"action": "Bound it", "priority": "high", "rationale": "One line."}],
}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
REPORTS = st.fixed_dictionaries(
    {
        "title": TEXT,
        "summary": TEXT,
        "findings": st.lists(
            st.fixed_dictionaries(
                {
                    "title": TEXT,
                    "severity": st.sampled_from(["critical", "high", "medium", "low", "info"]),
                    "description": TEXT,
                    "evidence": st.lists(
                        st.fixed_dictionaries(
                            {
                                "file": st.none() | TEXT,
                                "line": st.none() | st.integers(1, 2**31 - 1),
                                "excerpt": TEXT,
                                "note": TEXT,
                            }
                        ),
                        max_size=2,
                    ),
                }
            ),
            max_size=3,
        ),
        "recommendations": st.lists(
            st.fixed_dictionaries(
                {"action": TEXT, "priority": st.sampled_from(["high", "medium", "low"]), "rationale": TEXT}
            ),
            max_size=2,
        ),
    }
)


@given(REPORTS)
def test_what_the_schema_allows_is_a_report(report):
    """An answer that a CLI has held to the schema is read whole."""
    jsonschema.validate(report, SCHEMA)
    found = read_report(json.dumps(report))
    assert found.problem is None and found.report is not None
    for finding in (read := msgspec.to_builtins(found.report))["findings"]:
        del finding["step"]
    assert read == report


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(REPORT),
        f"\n  {json.dumps(REPORT, indent=2)}\n",
        'I looked at `{x}`.\n\n```json\n{"other": 1}\n```\n\nThe report:\n\n```json\n'
        f"{json.dumps(REPORT, indent=2)}\n```\n",
        f"~~~json\n{json.dumps(REPORT)}\n~~~",
    ],
)
def test_a_report_is_found_in_an_answer(text):
    found = read_report(text)
    assert (found.title, found.problem) == (REPORT["title"], None)
    assert found.report is not None and found.report.findings[0].evidence[0].line == 12


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# The cause\n\nIt is the cache.", "The cause"),
        ("**Bold** words", "Bold** words"),
        ("", "Report without a title"),
        ('See:\n```json\n{"a": 1}\n```', "See:"),
        ("```\n{ not json\n```", "{ not json"),
    ],
)
def test_another_answer_is_prose(text, title):
    found = read_report(text)
    assert (found.report, found.problem, found.title) == (None, None, title)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"findings": [{"title": "x", "severity": "awful"}]}, "severity"),
        ({"findings": [{"title": "x", "severity": "low"}] * 501}, "length <= 500"),
        ({"title": "x" * 501}, "length <= 500"),
        ({"summary": None}, "summary"),
        ({"summary": "a\0b"}, "matching regex"),
        ({"findings": "none"}, "array"),
        ({"findings": [{"title": "x", "severity": "low", "evidence": [{"line": 10**30}]}]}, "line"),
    ],
)
def test_what_is_meant_for_a_report_and_is_none_says_why(change, problem):
    found = read_report(json.dumps({**REPORT, **change}))
    assert found.report is None and problem in (found.problem or "")


def test_json_that_is_cut_or_nested_too_deep_says_why():
    for text in (json.dumps(REPORT)[:-9], f"Here:\n```json\n{json.dumps(REPORT)[:-9]}", '{"findings":' + "[" * 100_000):
        assert read_report(text).problem


@pytest.mark.parametrize(
    ("before", "repeated", "after"),
    [
        ("```", " ", "x\n{"),
        ("", "```json\n{\n", ""),
        ("", "```\n{\n````  x\n", ""),
        ("", "`", "\n{"),
    ],
)
def test_an_answer_of_many_marks_is_read_in_linear_time(before, repeated, after):
    """What takes quadratic time holds the server for half a minute: an answer of the tenfold length may not take the
    hundredfold time."""

    def seconds(length: int) -> float:
        text = before + repeated * (length // len(repeated)) + after
        times: list[float] = []
        for _ in range(5):
            began = time.process_time()
            assert read_report(text).report is None
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(60_000) < 40 * max(seconds(6_000), 1e-4)


@given(st.text(max_size=200) | st.builds("```json\n{}\n```".format, st.text(max_size=100)))
def test_any_text_is_read(text):
    found = read_report(text)
    assert 0 < len(found.title) <= 500
    assert isinstance(found.report, Report | None)
