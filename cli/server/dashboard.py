"""The files of the dashboard: from the installed package, or built from the sources in this repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onsembl.cli.errors import CliError
from onsembl.cli.server.dashboard_build import DashboardNotBuilt, build

PARTS = Path(__file__).resolve().parents[2]


def dashboard_files(report: Callable[[str], None]) -> Path | None:
    """The folder with `index.html`; None when this installation has neither built files nor sources.

    Raises CliError when the build fails.
    """
    dashboard = PARTS / "dashboard"
    if (dashboard / "package.json").exists():
        try:
            build(dashboard, report)
        except DashboardNotBuilt as error:
            raise CliError(str(error)) from error
    files = dashboard / "dist"
    return files if (files / "index.html").exists() else None
