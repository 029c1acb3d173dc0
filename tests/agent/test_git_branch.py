"""The branch of a working tree, without git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from onsembl.agent.drivers.git_branch import git_branch


def git(folder: Path, *arguments: str) -> None:
    names = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_branch_is_that_of_the_folder_or_above(tmp_path):
    """A subfolder, a worktree, a detached head, and a folder outside of git."""
    assert git_branch(tmp_path) is None
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    git(tree, "init", "--quiet", "--initial-branch=feature/x")
    assert git_branch(tree / "below") == "feature/x"
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(tree, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "worktree"))
    assert git_branch(tmp_path / "worktree") == "other"
    git(tree, "checkout", "--quiet", "--detach")
    assert len(git_branch(tree) or "") == 12


def test_hostile_files_name_no_branch_and_fail_no_command(tmp_path):
    """What a program has written there is shown without control characters, or passed over."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/a\0b\x1b[31mc")
    assert git_branch(tmp_path) == "abc"
    below = tmp_path / "below"
    below.mkdir()
    (below / ".git").write_text("gitdir: \0")
    assert git_branch(below) == "abc"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / ".git" / "HEAD").unlink()
    (tmp_path / ".git" / "HEAD").symlink_to(tmp_path / "pipe")
    assert git_branch(tmp_path) is None, "a pipe does not hold the agent up"
