"""The branch of a git working tree, read from its files: no program runs, and nothing in the tree is touched."""

from __future__ import annotations

import os
from pathlib import Path

from onsembl.agent.rendering.text import printable

_REF = "ref: refs/heads/"
_MAX_BYTES = 4096


def git_branch(folder: Path) -> str | None:
    """The branch that is checked out in `folder` or above it; a short commit id when none is; None outside of git."""
    for place in (folder, *folder.parents):
        dot_git = place / ".git"
        try:
            if dot_git.is_file():  # a worktree or a submodule: the file names its git folder
                dot_git = place / _text(dot_git).removeprefix("gitdir:").strip()
            head = _text(dot_git / "HEAD").strip()
        except (OSError, ValueError):  # no such file; or no text, or no path
            continue
        if head == "":
            continue
        return printable(head.removeprefix(_REF)[:256] if head.startswith(_REF) else head[:12])
    return None


def _text(path: Path) -> str:
    """The beginning of a file. A pipe that a program has put in its place is empty. Raises OSError and ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MAX_BYTES).decode()
