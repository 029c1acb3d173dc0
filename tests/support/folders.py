"""Where tests keep databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 * 2**30


def data_folder() -> Path:
    """A new one that Postgres can get to: as root, it runs as another user. In memory where there is enough, for a
    database is a thousand files, and each test has one of its own. The caller removes it."""
    in_memory = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    folder = Path(tempfile.mkdtemp(prefix="onsembl-", dir=MEMORY if in_memory else None))
    folder.chmod(0o755)
    return folder


def copy_folder(source: Path, target: Path) -> None:
    """Copy what is in a folder into another, with owners: as root, Postgres runs as another user."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", target], check=True)
