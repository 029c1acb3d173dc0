"""The checks and tests of the page's own sources, in TypeScript."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.checked import ROOT, check_once

from onsembl.cli.server.dashboard_build import install_for_checks
from onsembl.cli.server.generate_typescript import GENERATOR, REST, rest_types
from onsembl.cli.server.node import node_environment, npm_command

SOURCES = ROOT / "dashboard"
MADE = {"node_modules", "dist", ".svelte-check", ".build-lock"}


def sources() -> Iterator[Path]:
    """The files of the page, without those that are made of them."""
    for folder, folders, files in os.walk(SOURCES):
        folders[:] = [name for name in folders if name not in MADE]
        yield from (Path(folder, name) for name in files if name not in MADE)


@pytest.mark.seconds(30)
@pytest.mark.timeout(600)  # tools that take a whole core's time: beside others they take long
@pytest.mark.parametrize("script", ["check", "lint", "test"])
def test_the_pages_sources_pass(pytestconfig: pytest.Config, script: str) -> None:
    """`npm run check` (types), `npm run lint` and `npm test` find no error."""

    def check() -> None:
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

    check_once(pytestconfig, f"page-{script}", sources(), check)


@pytest.mark.seconds(6)
def test_rest_types_are_what_the_generator_writes(pytestconfig: pytest.Config) -> None:
    """The committed `rest.ts` has no change by hand. That it is of the present document, its head says
    (tests/cli/test_generate_typescript.py)."""

    def check() -> None:
        assert REST.read_text(encoding="utf-8") == rest_types(), (
            "./dev run python -m onsembl.cli.server.generate_typescript"
        )

    check_once(pytestconfig, "rest-types", [REST, GENERATOR / "package-lock.json"], check)
