"""The tables of tests/clis: what each coding CLI gives on the scripted model."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "clis"
_STEP = re.compile(r"( *)(\w+).*? (completed|failed|denied)(?=[:*]|$)")


def table(name: str) -> dict[str, Any]:
    """A table."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def runnable(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases of a table that the CLI can do."""
    return [case for case in table["case"] if "turn" in case]


def tree(case: dict[str, Any]) -> list[list[str]]:
    """Of each turn the kind, the depth and the status of its steps."""
    found: list[list[str]] = []
    for turn in case["turn"]:
        steps = [_STEP.match(line) for line in turn["steps"].strip().splitlines()]
        found.append([f"{step[1]}{step[2]} {step[3]}" for step in steps if step is not None])
        assert len(found[-1]) == len(steps)
    return found
