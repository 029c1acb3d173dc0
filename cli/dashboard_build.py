"""The dashboard's files: carried by the installed package, or built from sources that are newer than they are."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from onsembl.cli.errors import StartError
from onsembl.cli.node import node_environment, npm_command

Say = Callable[[str], None]

SOURCES = ("src", "public", "index.html", "package.json", "package-lock.json")
STAMP = ".built-from"


def dashboard_files(say: Say) -> Path | None:
    """The folder with `index.html`; None when this installation has neither files nor sources. Raises StartError."""
    here = Path(__file__).resolve()
    sources = here.parents[1] / "dashboard"
    if (sources / "package.json").exists():
        build(sources, say)
        return sources / "dist"
    installed = here.parents[1] / "dashboard" / "dist"
    return installed if (installed / "index.html").exists() else None


def build(sources: Path, say: Say) -> None:
    """Build if the sources are not those that the files were built from. Raises StartError."""
    with (sources / ".build-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several may start at once
        if _stamp(sources / "dist") == _fingerprint(sources):
            return
        say("Building the dashboard, because it is new or has changed:")
        locked = _digest([sources / "package-lock.json"])
        if _stamp(sources / "node_modules") != locked:
            _run([*npm_command(), "ci", "--no-audit", "--no-fund"], sources, "installing its packages", say)
            (sources / "node_modules" / STAMP).write_text(locked)
        _run([*npm_command(), "run", "build"], sources, "compiling", say)
        (sources / "dist" / STAMP).write_text(_fingerprint(sources))


def _run(command: list[str], folder: Path, what: str, say: Say) -> None:
    began = time.monotonic()
    result = subprocess.run(command, cwd=folder, env=node_environment(), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        raise StartError(f"The dashboard could not be built ({what}). The end of what was said:\n{tail}")
    say(f"  {what}: {time.monotonic() - began:.1f} s")


def _fingerprint(sources: Path) -> str:
    files = [path for name in SOURCES for path in _files(sources / name)]
    files += [path for path in sources.glob("*.config.*") if path.is_file()]
    files += list(sources.glob("tsconfig*.json"))
    return _digest(sorted(files))


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path] * path.exists()


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _stamp(folder: Path) -> str | None:
    stamp = folder / STAMP
    return stamp.read_text() if stamp.exists() else None
