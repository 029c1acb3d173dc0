"""The branch of a git working tree, read from its files: no program runs, and nothing in the tree is touched."""

from __future__ import annotations

from pathlib import Path

from onsembl.agent.rendering.text import printable

_REF = "ref: refs/heads/"


def git_branch(folder: Path) -> str | None:
    """The branch that is checked out in `folder` or above it; a short commit id when none is; None outside of git."""
    for place in (folder, *folder.parents):
        dot_git = place / ".git"
        try:
            if dot_git.is_file():  # a worktree or a submodule: the file names its git folder
                dot_git = place / dot_git.read_text().removeprefix("gitdir:").strip()
            head = (dot_git / "HEAD").read_text().strip()
        except (OSError, ValueError):  # no such file; or no text, or no path
            continue
        return printable(head.removeprefix(_REF)[:256] if head.startswith(_REF) else head[:12])
    return None
