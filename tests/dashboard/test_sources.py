"""The page's own checks and tests, which are written in its language.

Types and lint look again at what has changed since the last run only.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from onsembl.cli.server.dashboard_build import install_for_checks
from onsembl.cli.server.node import node_environment, npm_command

SOURCES = Path(__file__).resolve().parents[2] / "dashboard"


@pytest.mark.seconds(12)
@pytest.mark.parametrize("script", ["check", "lint", "test"])
def test_the_pages_sources_hold(script: str) -> None:
    """Types, lint and unit tests, as `npm run` knows them."""
    install_for_checks(SOURCES, print)
    result = subprocess.run(
        [*npm_command(), "run", script],
        cwd=SOURCES,
        env=node_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
