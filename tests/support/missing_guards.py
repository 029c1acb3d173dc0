"""Programs that are as they ship but for one guard, to see that a test fails without it."""

from __future__ import annotations

from pathlib import Path


def without(folder: Path, patch: str) -> dict[str, str]:
    """The environment in which every Python process begins with these statements, which take the guard away. (Python
    runs a module `sitecustomize` before the program.)"""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(patch)
    return {"PYTHONPATH": str(folder)}
