"""The log file of the embedded Postgres: private, and bounded by rotation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
TAIL_BYTES = 64 * 1024
TAIL_LINES = 8


class PostgresLog:
    """The file at `path`, and an earlier one at `path` with `.1` appended: together at most about 20 MiB.

    Postgres holds the file open, in append mode, while it runs. So the file is copied and emptied, not renamed.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    @property
    def earlier(self) -> Path:
        """The file with the lines before the last rotation."""
        return self.path.with_name(self.path.name + ".1")

    def prepare(self, user: str | None) -> None:
        """Make the file, which only its owner can read: `user`, or we without one. Raises OSError."""
        for path in (self.path, self.earlier):
            # An earlier version made a file that everybody could read.
            if path == self.path or path.exists():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                try:
                    os.fchmod(descriptor, 0o600)
                    if user is not None:
                        shutil.chown(path, user)
                finally:
                    os.close(descriptor)

    def rotate(self) -> None:
        """Begin the file anew if it is large. Lines that come between copy and cut are lost. Raises OSError."""
        if not self.path.exists() or self.path.stat().st_size < self._max_bytes:
            return
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            partial.unlink(missing_ok=True)
            with open(partial, "xb", opener=_private) as copy, self.path.open("rb") as file:
                shutil.copyfileobj(file, copy)
            partial.replace(self.earlier)
        except OSError:
            # On a full disk a log that grows does more harm than lines that are missing.
            partial.unlink(missing_ok=True)
            raise
        finally:
            os.truncate(self.path, 0)

    def tail(self) -> str:
        """The last lines; empty without a file."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL_LINES:])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
