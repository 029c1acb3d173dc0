"""Where the control center keeps what is its own, and that only one runs there at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

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
    show_envvar=True,
    default=default_folder,
    show_default="the user's data folder",
    help="Where the embedded Postgres and the rest of the data are.",
)


class DataFolder:
    """The folder, held by this process until it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def hold(self, address: str) -> None:
        """Take the folder and note where we can be found. Raises StartError when another has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # A bare descriptor: a file object would give the lock up as soon as nothing refers to it.
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StartError(
                f"The data folder {self.path} cannot be written ({error.strerror or error}). "
                "Choose another with --data-dir."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 1000, 0).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise StartError(
                f"A control center runs on {self.path} already: {holder}. "
                "Stop it first, or give this one a folder of its own with --data-dir."
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} at {address}\n".encode(), 0)
