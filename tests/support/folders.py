"""Folders for the tests' databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
MIN_FREE_BYTES = 4 * 2**30


def data_folder() -> Path:
    """Make a folder that Postgres can read: when the tests run as root, Postgres runs as another user.

    The folder is in memory if enough is free: a database is a thousand files, and each test has a database of its own.
    The caller removes the folder.
    """
    in_memory = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MIN_FREE_BYTES
    folder = Path(tempfile.mkdtemp(prefix="onsembl-", dir=MEMORY if in_memory else None))
    folder.chmod(0o755)
    return folder


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder's contents with their owners: when the tests run as root, Postgres runs as another user."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", target], check=True)
