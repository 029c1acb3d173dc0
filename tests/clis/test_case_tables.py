"""The tables of the coding CLIs: each has all cases, a reason in each empty cell, and Claude Code's tree of steps."""

from __future__ import annotations

import pytest
from support.case_tables import FOLDER, table, tree

OTHERS = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != "claude_code")
STEERED = ["a text for a running tool", "a text for a running answer"]
"""Cases that Claude Code has in test_claude_code_steering.py."""


@pytest.mark.parametrize("name", OTHERS)
def test_a_table_has_all_cases(name, subtests):
    """In the order of Claude Code's table; a cell is filled, or has a reason. A tree differs if a reason says so."""
    claude = {case["name"]: case for case in table("claude_code")["case"]}
    cases = table(name)["case"]
    assert [case["name"] for case in cases] == [*claude, *STEERED]
    for case in cases:
        with subtests.test(case=case["name"]):
            assert ("turn" in case) != ("cannot" in case)
            if "turn" in case and case["name"] in claude:
                assert (tree(case) != tree(claude[case["name"]])) == ("differs" in case)


def test_trees_tell_steps_apart():
    """By kind, status and depth."""
    lines = ["tool Agent completed: look", "  tool Bash failed: a completed: b", "result interrupted failed*"]
    turn = {"steps": "\n".join(lines)}
    (steps,) = tree({"turn": [turn]})
    assert steps == ["tool completed", "  tool failed", "result failed"]
