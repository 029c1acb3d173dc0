"""Runs programs without one of their guards, to show that a test fails then."""

from __future__ import annotations

from pathlib import Path


def without(folder: Path, patch: str) -> dict[str, str]:
    """An environment in which every Python process first runs `patch`, which removes the guard.

    Python runs a module `sitecustomize` before the program.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(patch)
    return {"PYTHONPATH": str(folder)}
