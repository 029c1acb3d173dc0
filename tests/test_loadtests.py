"""The load tests start, load a control center of their own, and judge what they saw."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOAD = Path(__file__).resolve().parents[1] / "loadtests" / "load.py"


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("limit", "seconds", "code"), [("60000", "40", 0), ("-1", "20", 1)])
def test_a_short_load_is_run_and_judged(limit, seconds, code):
    """Its table has the terminals' latency; a threshold that is missed is the exit code."""
    # An operator's first command comes within 8 s of the sign-in, which takes its time on a busy machine.
    people = ("--agents", "2", "--operators", "2", "--seconds", seconds)
    said = load("steady", *people, "--terminal-p99", limit, "--command-p99", "60000", code=code)
    assert "agent → viewer: p50" in said and "Postgres connections, at most" in said
    assert ("every threshold was kept" in said) == (code == 0)


@pytest.mark.timeout(200)
def test_a_ramp_says_how_many_it_held():
    """It goes up until what it was asked for at most."""
    said = load("limit", "--agents", "4", "--step", "2", "--step-seconds", "6", "--terminal-p99", "60000")
    assert "4 agents × 5 viewers" in said and "the limit at any: 4 agents × 5 viewers" in said


def load(*arguments: str, code: int = 0) -> str:
    """What it says; it ends with this code."""
    run = subprocess.run(
        [sys.executable, str(LOAD), *arguments], capture_output=True, text=True, check=False, timeout=180
    )
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr
