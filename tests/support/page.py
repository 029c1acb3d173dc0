"""The page as it ships, built once for all tests that serve it."""

from __future__ import annotations

import functools
from pathlib import Path

from onsembl.cli.server.dashboard import dashboard_files
from onsembl.cli.server.dashboard_build import install_for_checks

SOURCES = Path(__file__).parents[2] / "dashboard"


@functools.cache
def built_page() -> Path:
    """The folder of the page, built from the present sources. Raises DashboardNotBuilt or CliError."""
    install_for_checks(SOURCES, print)  # all packages at once: tests/dashboard needs more than the build
    files = dashboard_files(print)
    assert files is not None
    return files
