"""Build the dashboard when its sources have changed since the last build.

Uses the standard library only: wheels are built with this module where the package is not installed.
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

Report = Callable[[str], None]

SOURCES = ("build", "src", "public", "index.html", "package.json", "package-lock.json")
STAMP = ".built-from"
LINES_OF_FAILURE = 15
QUIET = ("--no-audit", "--no-fund")


class DashboardNotBuilt(Exception):
    """The build failed. The text ends with the last lines of the failed step's output."""


def is_built(sources: Path) -> bool:
    """Whether `dist` was built from the present sources."""
    stamp = sources / "dist" / STAMP
    return stamp.exists() and stamp.read_text() == _fingerprint(sources)


def build(sources: Path, report: Report) -> None:
    """Build the dashboard unless `dist` is up to date. Raises DashboardNotBuilt."""
    if is_built(sources):
        return
    with _build_lock(sources):
        if not is_built(sources):
            _build(sources, report)


def install_for_checks(sources: Path, report: Report) -> None:
    """Install the packages for types, lint and unit tests, too. Raises DashboardNotBuilt."""
    with _build_lock(sources):
        if not _packages_are_installed(sources, for_checks=True):
            _run([*npm_command(), "ci", *QUIET], sources, "installing its packages", report)


@contextmanager
def _build_lock(sources: Path) -> Generator[None]:
    """Hold a lock while building: several processes may start at the same time."""
    try:
        with (sources / ".build-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise DashboardNotBuilt(f"The dashboard could not be built in {sources}: {error.strerror or error}.") from error
    except NodeMissing as error:
        raise DashboardNotBuilt(f"The dashboard could not be built: {error}") from error


def _build(sources: Path, report: Report) -> None:
    report("Building the dashboard, because it is new or has changed:")
    before = _fingerprint(sources)  # a change during the build is built at the next start
    if not _packages_are_installed(sources):
        _run([*npm_command(), "ci", "--omit=dev", *QUIET], sources, "installing its packages", report)
    _run([*npm_command(), "run", "build"], sources, "compiling", report)
    (sources / "dist" / STAMP).write_text(before)


def _packages_are_installed(sources: Path, *, for_checks: bool = False) -> bool:
    """npm writes this file when it has installed every package."""
    installed = sources / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (sources / "package-lock.json").stat().st_mtime:
        return False
    return not for_checks or '"dev": true' in installed.read_text()


def _run(command: list[str], folder: Path, step: str, report: Report) -> None:
    report(f"  {step} …")
    began = time.monotonic()
    result = subprocess.run(command, cwd=folder, env=node_environment(), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-LINES_OF_FAILURE:])
        raise DashboardNotBuilt(f"The dashboard could not be built ({step}). The end of its output:\n{tail}")
    report(f"  {step}: {time.monotonic() - began:.1f} s")


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
