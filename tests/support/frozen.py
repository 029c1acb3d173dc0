"""Whether each migration still is what it was when it was first committed.

The freeze begins with the commit that first added sql/frozen.sha256. It is found by that file and not by its hash: a
rebase gives the commit another hash, and the file stays. A file that was there at the freeze is compared with that
commit, a later one with the commit that added it. The checksums in sql/frozen.sha256 also catch a rebase that rewrites
a file in the commit of the freeze itself, where git has nothing older to compare with.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MANIFEST = "sql/frozen.sha256"
FOLDERS = ("sql/migrations", "sql/standin")


class NoHistory(Exception):
    """There is no history to compare the migrations with."""


def git(root: Path, *arguments: str) -> str:
    """What git says of the repository at `root`. Raises NoHistory."""
    # A hook's variables would lead git to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments]
    try:
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise NoHistory("git is not installed, and without it nothing tells whether a migration was edited.") from error
    except subprocess.CalledProcessError as error:
        raise NoHistory(f"{' '.join(command)} failed: {error.stderr.strip()}") from error


def require_history(root: Path) -> None:
    """Raises NoHistory unless `root` is a git repository with its whole history."""
    if not (root / ".git").exists():
        raise NoHistory(f"{root} is no git repository: clone the project to compare its migrations with their history.")
    if git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise NoHistory(f"{root} is a shallow clone: run `git fetch --unshallow`, or clone with the whole history.")


def commits(root: Path, span: str) -> list[str]:
    """The commits of the span that changed a migration, parents first."""
    found = git(root, "rev-list", "--reverse", "--topo-order", "--full-history", span, "--", *FOLDERS)
    return found.split()


def blobs(root: Path, commit: str) -> Iterator[tuple[str, str]]:
    """Each migration of a commit: its path, and git's name for its content."""
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


def edited(root: Path) -> list[str]:
    """The migrations that are not what they were when they were first committed, each with what happened to it.

    Raises NoHistory.
    """
    freeze = freeze_commit(root)
    first: dict[str, tuple[str, str]] = {}
    for commit in [freeze, *commits(root, f"{freeze}..HEAD")]:
        for path, blob in blobs(root, commit):
            first.setdefault(path, (blob, commit))
    there = [path for path in first if (root / path).exists()]
    now = dict(zip(there, git(root, "hash-object", "--no-filters", "--", *there).split(), strict=True))
    return [
        f"{path} was {'edited' if path in now else 'removed or renamed'} after {commit[:12]} added it"
        for path, (blob, commit) in first.items()
        if now.get(path) != blob
    ]


def unlike_the_manifest(root: Path) -> list[str]:
    """The migrations that do not have the checksum that they had at the freeze."""
    lines = [line for line in (root / MANIFEST).read_text().splitlines() if not line.startswith("#")]
    found: list[str] = []
    for checksum, _, name in (line.partition("  ") for line in lines):
        path = root / "sql" / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            found.append(f"sql/{name} is not what {MANIFEST} lists")
    return found
