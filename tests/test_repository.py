"""The repository keeps sources; what is made from them stays out of it, and out of the container image."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lines(path: str) -> list[str]:
    return [line for line in (ROOT / path).read_text().splitlines() if line and not line.startswith("#")]


def test_no_ignored_file_is_tracked():
    """A file that .gitignore names was added before it was named, or by force."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == ""


def test_no_ignored_file_is_copied_into_the_image():
    """.dockerignore names every pattern of the .gitignore files, so an image is built from sources alone."""
    ignored = {line.strip("/") for path in (".gitignore", "dashboard/.gitignore") for line in lines(path)}
    assert ignored - {line.removeprefix("**/") for line in lines(".dockerignore")} == set()
