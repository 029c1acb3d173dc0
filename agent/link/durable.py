"""Writes files that are either whole or absent, also when the machine loses power."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600


def replace_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that only its owner can read, replacing an earlier one. Raises OSError."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, PRIVATE)  # one that a crash left behind may have a looser mode
            file.writelines(pieces)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)
    except OSError:
        # On a full disk its bytes are the last room that there is.
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    # The file's name is on disk only when its folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
