"""The checks and tests of the page's own sources, in TypeScript.

Types and lint only check files again that have changed since the last run.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from onsembl.cli.server.dashboard_build import install_for_checks
from onsembl.cli.server.generate_typescript import REST, rest_types
from onsembl.cli.server.node import node_environment, npm_command

SOURCES = Path(__file__).resolve().parents[2] / "dashboard"


@pytest.mark.seconds(12)
@pytest.mark.parametrize("script", ["check", "lint", "test"])
def test_the_pages_sources_pass(script: str) -> None:
    """`npm run check` (types), `npm run lint` and `npm test` find no error."""
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


@pytest.mark.seconds(6)
def test_rest_types_are_what_the_generator_writes() -> None:
    """The committed `rest.ts` has no change by hand."""
    assert REST.read_text(encoding="utf-8") == rest_types(), (
        "./dev run python -m onsembl.cli.server.generate_typescript"
    )
