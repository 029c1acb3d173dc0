"""Checks of files by slow programs, which run again only when what they check has changed.

The digest of the last files that passed stands in pytest's cache: `--cache-clear` runs every check.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check_once(config: pytest.Config, name: str, files: Iterable[Path], check: Callable[[], None]) -> None:
    """Run the check, unless the last one that passed saw the same files and installed packages."""
    digest = _digest(files)
    cache = getattr(config, "cache", None)  # `-p no:cacheprovider` leaves none.
    if cache is not None and cache.get(_key(name), "") == digest:
        return
    check()
    if cache is not None:
        cache.set(_key(name), digest)


def _key(name: str) -> str:
    return f"onsembl/passed/{name}"


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256(platform.python_version().encode())
    for name, version in sorted((found.name, found.version) for found in metadata.distributions()):
        digest.update(f"{name} {version}\n".encode())
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
