"""The dashboard's files: those that the installed package carries, or those built from the sources beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onsembl.cli.errors import StartError
from onsembl.cli.server.dashboard_build import DashboardNotBuilt, build

PARTS = Path(__file__).resolve().parents[2]


def dashboard_files(say: Callable[[str], None]) -> Path | None:
    """The folder with `index.html`; None when this installation has neither files nor sources. Raises StartError."""
    dashboard = PARTS / "dashboard"
    if (dashboard / "package.json").exists():
        try:
            build(dashboard, say)
        except DashboardNotBuilt as error:
            raise StartError(str(error)) from error
    files = dashboard / "dist"
    return files if (files / "index.html").exists() else None
