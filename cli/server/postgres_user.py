"""The system user that runs the embedded Postgres when we are root, and the folders that the user can reach."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

from onsembl.cli.errors import CliError

NAME = "onsembl-postgres"
NAME_IS_TAKEN = 9
"""The exit code of `useradd` when the user exists, because another process was quicker."""


def postgres_user() -> str | None:
    """The system user for Postgres, created if missing; None when we are not root. Raises CliError."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        _create()
    return NAME


def _create() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        failure = result.stderr.strip() if result.returncode not in (0, NAME_IS_TAKEN) else None
    except OSError as error:
        failure = f"useradd: {error.strerror or error}"
    if failure is not None:
        raise CliError(
            f"Postgres does not run as root, and a system user for it could not be created: {failure}. "
            "Run this command as another user, or set DATABASE_URL."
        )


def reachable(path: Path) -> bool:
    """Whether every user can reach `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def require_reachable(folder: Path) -> None:
    """Let every user pass through `folder` to its subfolders. Raises CliError."""
    folder.chmod(folder.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    if not reachable(folder):
        raise CliError(
            f"Postgres does not run as root, so it runs as {NAME}, who cannot reach {folder}. "
            "Choose another folder with --data-dir, run this command as another user, or set DATABASE_URL."
        )


def require_private(folder: Path, user: str | None) -> None:
    """Create `folder` if missing, and make it private to `user`, or to us without one.

    Raises CliError when another user owns it: in a shared place such as /tmp, anybody may have created it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    owners = {os.geteuid()} | ({pwd.getpwnam(user).pw_uid} if user is not None else set[int]())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise CliError(f"{folder} belongs to another user. Remove it and start again.")
    folder.chmod(0o700)
    if user is not None:
        owner = pwd.getpwnam(user)
        os.chown(folder, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
