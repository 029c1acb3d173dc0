"""Checks of the machine: programs on the PATH, folders that can be written, cgroups."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from onsembl.agent.doctor.findings import Finding, fault, note, ok
from onsembl.agent.drivers.shell import SHELL

NEARLY_FULL_BYTES = 256 * 1024**2
"""Four times the output that an agent keeps while the server is away."""


def check_git(path: str | None) -> Finding:
    """`path` is that of the program git, if there is one."""
    if path is None:
        mend = "Install git with the system's package manager (Debian, Ubuntu: apt-get install git)."
        return fault("git", "There is no program `git` on the PATH: coding agents work in its repositories.", mend)
    return ok("git", path)


def check_bash(path: str | None) -> Finding:
    """`path` is that of the shell that runs commands, if it can be executed."""
    if path is None:
        mend = f"Install bash with the system's package manager, as {SHELL[0]}."
        return fault("bash", f"{SHELL[0]} cannot be executed: the kind `shell` runs its commands in it.", mend)
    return ok("bash", path)


def find_bash() -> str | None:
    """The shell of the kind `shell`, if it can be executed."""
    return shutil.which(SHELL[0])


def check_folder(check: str, folder: Path) -> Finding:
    """Whether files can be made in a folder, and its file system has room. A missing folder is judged by the nearest
    one above it, in which it would be made. Nothing is left behind."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return folder_finding(check, folder, 0, error.strerror or str(error))
    return folder_finding(check, folder, free, None)


def folder_finding(check: str, folder: Path, free: int, error: str | None) -> Finding:
    """The finding about a folder whose file system has `free` bytes left; `error` is why no file can be made in it."""
    if error is not None:
        mend = "Make it a folder that this user can write, or free space on its file system."
        return fault(check, f"{folder} cannot be written: {error}.", mend)
    if free < NEARLY_FULL_BYTES:
        mend = f"Free space: an agent should have {NEARLY_FULL_BYTES // 1024**2} MiB."
        return fault(check, f"The file system of {folder} is nearly full: {free // 1024**2} MiB are free.", mend)
    return ok(check, f"{folder}, {free / 1024**3:.1f} GiB free")


def check_cgroups(available: bool) -> Finding:
    """Whether the agent may make a cgroup for each command. It works without."""
    if available:
        return ok("cgroup", "Each command gets a cgroup.")
    return note(
        "cgroup",
        "The agent may not make cgroups: after `kill -9` of the agent, a process that has cleared its environment and "
        "left its parents is not found.",
        "Where that matters, run the agent in a systemd unit with Delegate=yes.",
    )
