"""The data folder, and the lock that lets only one control center use it at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from onsembl.cli.errors import CliError


class DataFolder:
    """The data folder, locked by this process until it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lock(self, address: str) -> None:
        """Lock the folder and write our address into the lock file. Raises CliError when another process holds it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # A bare file descriptor: a file object would release the lock when it is garbage collected.
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CliError(
                f"The data folder {self.path} cannot be written ({error.strerror or error}). "
                "Choose another with --data-dir."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise CliError(
                f"A control center already uses {self.path}: {holder}. "
                "Stop it first, or choose another folder with --data-dir."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} at {address}\n".encode(), 0)
