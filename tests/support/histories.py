"""Every set of migrations that a commit had before the freeze, from git.

A database of such a commit has these names and checksums in `onsembl_migrations.applied`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.frozen import blobs, commits, freeze_commit, git

from onsembl.sql.migrate import Migration

MIGRATOR = "sql/migrate.py"


@dataclass(frozen=True)
class History:
    """The migrations that one commit applies to an empty database, in order."""

    commit: str
    builtin_supabase: tuple[Migration, ...]
    ours: tuple[Migration, ...]

    @property
    def applied(self) -> dict[str, str]:
        """The checksum of each migration, by name."""
        return {migration.name: migration.checksum for migration in (*self.builtin_supabase, *self.ours)}

    def continues(self, earlier: History) -> bool:
        """Whether this commit's program accepts a database of the earlier commit."""
        return earlier.applied.items() <= self.applied.items()


def histories(root: Path) -> list[History]:
    """The different sets, oldest first. Raises NoHistory.

    Commits before the first migrator are omitted: they made no database.
    """
    freeze = freeze_commit(root)
    texts: dict[str, str] = {}
    found: dict[tuple[tuple[str, str], ...], History] = {}
    for commit in [*commits(root, f"{freeze}^"), freeze]:
        files = tuple(sorted(blobs(root, commit)))
        if files in found or not git(root, "ls-tree", commit, "--", MIGRATOR):
            continue
        for _, blob in files:
            if blob not in texts:
                texts[blob] = git(root, "cat-file", "blob", blob)
        named = [(path.removeprefix("sql/"), texts[blob]) for path, blob in files]
        found[files] = History(
            commit[:7],
            *(
                tuple(Migration(name, text) for name, text in named if name.startswith(f"{folder}/"))
                for folder in ("standin", "migrations")
            ),
        )
    return list(found.values())
