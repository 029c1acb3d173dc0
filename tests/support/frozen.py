"""Checks that no migration was edited since it was first committed.

The freeze begins with the commit that first added sql/frozen.sha256. The file identifies the commit; its hash would
change in a rebase. A migration of the freeze is compared with that commit, a later one with the commit that added it.
The checksums in sql/frozen.sha256 also catch a rebase that rewrites a file in the commit of the freeze itself, where
git has no older version to compare with.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

MANIFEST = "sql/frozen.sha256"
FOLDERS = ("sql/migrations", "sql/standin")


class NoHistory(Exception):
    """The repository has no history to compare the migrations with."""


def git(root: Path, *arguments: str) -> str:
    """The output of a git command in the repository at `root`. Raises NoHistory."""
    # In a git hook, GIT_* variables name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments]
    try:
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise NoHistory("git is not installed; it is needed to see whether a migration was edited.") from error
    except subprocess.CalledProcessError as error:
        raise NoHistory(f"{' '.join(command)} failed: {error.stderr.strip()}") from error


def require_history(root: Path) -> None:
    """Raises NoHistory unless `root` is a git repository with its whole history."""
    if not (root / ".git").exists():
        raise NoHistory(f"{root} is no git repository: clone the project to compare its migrations with their history.")
    if git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise NoHistory(f"{root} is a shallow clone: run `git fetch --unshallow`, or clone with the whole history.")


def commits(root: Path, span: str) -> list[str]:
    """The commits of the range that changed a migration, parents first."""
    found = git(root, "rev-list", "--reverse", "--topo-order", "--full-history", span, "--", *FOLDERS)
    return found.split()


def blobs(root: Path, commit: str) -> Iterator[tuple[str, str]]:
    """The path and the blob id of each migration in a commit."""
    for line in git(root, "ls-tree", "-r", commit, "--", *FOLDERS).splitlines():
        about, _, path = line.partition("\t")
        if path.endswith(".sql"):
            yield path, about.split()[2]


def freeze_commit(root: Path) -> str:
    """The commit that first added the manifest. Raises NoHistory."""
    require_history(root)
    added = ("log", "--reverse", "--topo-order", "--full-history", "--diff-filter=A", "--format=%H", "--", MANIFEST)
    found = git(root, *added).split()
    if not found:
        raise NoHistory(f"No commit of {root} adds {MANIFEST}: its history does not reach the freeze.")
    return found[0]


def first_committed(root: Path) -> dict[str, tuple[str, str]]:
    """The blob of each migration in the first commit since the freeze that has it, and that commit. Raises
    NoHistory."""
    freeze = freeze_commit(root)
    first: dict[str, tuple[str, str]] = {}
    for commit in [freeze, *commits(root, f"{freeze}..HEAD")]:
        for path, blob in blobs(root, commit):
            first.setdefault(path, (blob, commit))
    return first


def edited(root: Path, renumbered: Mapping[str, str] | None = None) -> list[str]:
    """One sentence for each migration that was edited, removed or renamed since it was first committed; `renumbered`
    has the present paths of those that the upgrade recognises under a former one.

    Raises NoHistory.
    """
    first, renumbered = first_committed(root), renumbered or {}
    present = [path for path in first if (root / path).exists()]
    now = dict(zip(present, git(root, "hash-object", "--no-filters", "--", *present).split(), strict=True))
    return [
        f"{path} was {'edited' if path in now else 'removed or renamed'} after {commit[:12]} added it"
        for path, (blob, commit) in first.items()
        if now.get(renumbered.get(path, path)) != blob
    ]


def unlike_the_manifest(root: Path) -> list[str]:
    """One sentence for each migration whose checksum is not the one in the manifest."""
    lines = [line for line in (root / MANIFEST).read_text().splitlines() if not line.startswith("#")]
    found: list[str] = []
    for checksum, _, name in (line.partition("  ") for line in lines):
        path = root / "sql" / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            found.append(f"sql/{name} is not what {MANIFEST} lists")
    return found
