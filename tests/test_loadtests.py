"""The load tests start, load a control center of their own, and judge what they saw."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOAD = Path(__file__).resolve().parents[1] / "loadtests" / "load.py"


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("limit", "code"), [("60000", 0), ("0.000001", 1)])
def test_a_short_load_is_run_and_judged(limit, code):
    """Its table has the terminals' latency; a threshold that is missed is the exit code."""
    people = ("--agents", "2", "--operators", "2", "--seconds", "8")
    limits = ("--terminal-p99", limit, "--command-p99", "60000")
    run = subprocess.run(
        [sys.executable, str(LOAD), "steady", *people, *limits],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert run.returncode == code, run.stdout + run.stderr
    said = run.stdout + run.stderr
    assert "agent → viewer: p50" in said and "Postgres connections: at most" in said
    assert ("every threshold was kept" in said) == (code == 0)
