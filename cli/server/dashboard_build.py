"""Building the dashboard from its sources, when they are newer than what was built from them.

Of the standard library alone: wheels are built by it too, where nothing of ours is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from onsembl.cli.server.node import NodeMissing, node_environment, npm_command

Say = Callable[[str], None]

SOURCES = ("src", "public", "index.html", "package.json", "package-lock.json")
STAMP = ".built-from"
LINES_OF_FAILURE = 15
QUIET = ("--no-audit", "--no-fund")


class DashboardNotBuilt(Exception):
    """Its sources could not be built; the text ends with what the failing step said."""


def is_built(sources: Path) -> bool:
    """Whether `dist` holds what these sources build."""
    stamp = sources / "dist" / STAMP
    return stamp.exists() and stamp.read_text() == _fingerprint(sources)


def build(sources: Path, say: Say) -> None:
    """Build unless it is built. Raises DashboardNotBuilt."""
    if is_built(sources):
        return
    with _alone_in(sources):
        if not is_built(sources):
            _build(sources, say)


def install_for_checks(sources: Path, say: Say) -> None:
    """Have the packages that types, lint and unit tests need, too. Raises DashboardNotBuilt."""
    with _alone_in(sources):
        if not _packages_are_installed(sources, for_checks=True):
            _run([*npm_command(), "ci", *QUIET], sources, "installing its packages", say)


@contextmanager
def _alone_in(sources: Path) -> Generator[None]:
    """Several may start at once."""
    try:
        with (sources / ".build-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise DashboardNotBuilt(f"The dashboard could not be built in {sources}: {error.strerror or error}.") from error
    except NodeMissing as error:
        raise DashboardNotBuilt(f"The dashboard could not be built: {error}") from error


def _build(sources: Path, say: Say) -> None:
    say("Building the dashboard, because it is new or has changed:")
    before = _fingerprint(sources)  # what is changed meanwhile is built the next time
    if not _packages_are_installed(sources):
        _run([*npm_command(), "ci", "--omit=dev", *QUIET], sources, "installing its packages", say)
    _run([*npm_command(), "run", "build"], sources, "compiling", say)
    (sources / "dist" / STAMP).write_text(before)


def _packages_are_installed(sources: Path, *, for_checks: bool = False) -> bool:
    """npm writes a lock file of what it installed when it has installed all of it."""
    installed = sources / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (sources / "package-lock.json").stat().st_mtime:
        return False
    return not for_checks or '"dev": true' in installed.read_text()


def _run(command: list[str], folder: Path, what: str, say: Say) -> None:
    say(f"  {what} …")
    began = time.monotonic()
    result = subprocess.run(command, cwd=folder, env=node_environment(), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-LINES_OF_FAILURE:])
        raise DashboardNotBuilt(f"The dashboard could not be built ({what}). The end of what was said:\n{tail}")
    say(f"  {what}: {time.monotonic() - began:.1f} s")


def _fingerprint(sources: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(_files(sources)):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(sources).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(sources: Path) -> set[Path]:
    found = {path for name in SOURCES for path in [sources / name, *(sources / name).rglob("*")]}
    found |= {*sources.glob("*.config.*"), *sources.glob("tsconfig*.json")}
    return {path for path in found if path.is_file()}
