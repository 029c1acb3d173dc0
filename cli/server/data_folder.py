"""The data folder, and the lock that lets only one control center use it at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import click
import platformdirs

from onsembl.cli.errors import CliError


def default_folder() -> Path:
    """The user's data folder. For root it is a system folder, because other users cannot enter root's home."""
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
    help="The folder of the embedded Postgres and all other data.",
)


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
