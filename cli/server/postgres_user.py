"""Whom the embedded Postgres runs as when we are root, whom it refuses to serve; and what that user can reach."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

from onsembl.cli.errors import StartError

NAME = "onsembl-postgres"
NAME_IS_TAKEN = 9
"""How `useradd` ends when the user exists: another process was quicker."""


def postgres_user() -> str | None:
    """The user's name, made when there is none; None where we are not root and need no other. Raises StartError."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        _make()
    return NAME


def _make() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        failure = result.stderr.strip() if result.returncode not in (0, NAME_IS_TAKEN) else None
    except OSError as error:
        failure = f"useradd: {error.strerror or error}"
    if failure is not None:
        raise StartError(
            f"Postgres does not run as root, and a user for it could not be made: {failure}. "
            "Run this as another user, or set DATABASE_URL."
        )


def reachable(path: Path) -> bool:
    """Whether any user can get to `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def require_reachable(folder: Path) -> None:
    """Let any user pass through `folder`, to what is theirs in it. Raises StartError."""
    folder.chmod(folder.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    if not reachable(folder):
        raise StartError(
            f"Postgres does not run as root, so it runs as {NAME}, who cannot reach {folder}. "
            "Choose another place with --data-dir, run this as another user, or set DATABASE_URL."
        )


def require_private(folder: Path, user: str | None) -> None:
    """A folder that is `user`'s alone (ours without one), made when missing.

    In a place where anybody may make folders, one that somebody else made is not followed. Raises StartError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    owners = {os.geteuid()} | ({pwd.getpwnam(user).pw_uid} if user is not None else set[int]())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise StartError(f"{folder} belongs to somebody else. Remove it, and start again.")
    folder.chmod(0o700)
    if user is not None:
        owner = pwd.getpwnam(user)
        os.chown(folder, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
