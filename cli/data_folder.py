"""Where the control center keeps what is its own, and that only one runs there at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

import click
import platformdirs

from onsembl.cli.errors import StartError


def default_folder() -> Path:
    """The user's data folder; for root, whose home others cannot enter, the system's."""
    if os.name == "posix" and os.geteuid() == 0:
        return Path("/var/lib/onsembl")
    return platformdirs.user_data_path("onsembl")


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ONSEMBL_DATA_DIR",
    default=default_folder,
    show_default="the user's data folder",
    help="Where the embedded Postgres and the rest of the data are.",
)


class DataFolder:
    """The folder, held by this process until it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: TextIO | None = None

    def hold(self, address: str) -> None:
        """Take the folder and note where we can be found. Raises StartError when another has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise StartError(
                f"The data folder {self.path} cannot be written ({error.strerror or error}). "
                "Choose another with --data-dir."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            raise StartError(
                f"A control center runs on {self.path} already: {holder}. "
                "Stop it first, or give this one a folder of its own with --data-dir."
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} at {address}\n")
        self._lock.flush()
