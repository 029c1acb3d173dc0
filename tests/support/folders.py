"""Folders for the tests' databases."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
MIN_FREE_BYTES = 4 * 2**30
PREFIX = "onsembl-test-"
PLACES = (MEMORY, Path(tempfile.gettempdir()))


@contextmanager
def data_folder() -> Iterator[Path]:
    """A folder until the block ends that Postgres can read: when the tests run as root, Postgres runs as another user.

    The folder is in memory if enough is free: a database is a thousand files, and each test has a database of its own.
    If this process is killed, `remove_abandoned_folders` removes the folder.
    """
    in_memory = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MIN_FREE_BYTES
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY if in_memory else None))
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # else another run has taken it for abandoned before it was locked
            break
        os.close(descriptor)
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned_folders(places: tuple[Path, ...] = PLACES) -> None:
    """Remove the data folders of killed processes, and end the Postgres servers that run there.

    A folder is locked by the process that made it. The kernel releases the lock when that process ends.
    """
    for folder in {folder for place in places for folder in place.glob(f"{PREFIX}*")}:
        with suppress(OSError):  # somebody else's, or gone meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _end_servers(folder)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _end_servers(folder: Path) -> None:
    servers = [process for process in psutil.process_iter(["name"]) if _runs_in(process, folder)]
    for server in servers:
        with suppress(psutil.NoSuchProcess):
            server.send_signal(signal.SIGKILL)
    psutil.wait_procs(servers)


def _runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.name() == "postgres" and folder in Path(process.cwd()).parents
    except psutil.Error:
        return False


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder's contents with their owners: when the tests run as root, Postgres runs as another user."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", target], check=True)
