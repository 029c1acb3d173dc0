"""A cgroup for each command, where the system lets the agent make one (Linux, cgroup v2, delegated).

A process can leave its session and its parents and clear its environment, but it stays in its cgroup, unless it moves
itself to another. So the next run of a killed agent finds it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

_PREFIX = "onsembl-"
_MOUNT = re.compile(r"\S+ \S+ \S+ (?P<root>\S+) (?P<at>\S+) .* - cgroup2 ")
"""A line of /proc/self/mountinfo (proc(5)) that mounts the hierarchy of cgroup v2."""


def is_available() -> bool:
    """Whether the system lets this process make cgroups."""
    return _own_folder() is not None


def make(command_id: str) -> Path | None:
    """Make the command's cgroup; None where the system does not allow it."""
    own = _own_folder()
    if own is None:
        return None
    path = own / f"{_PREFIX}{command_id}"
    try:
        path.mkdir(exist_ok=True)
    except OSError:
        return None
    return path


def join(path: Path | None) -> None:
    """Move this process into the cgroup, before it executes the command's program."""
    if path is not None:
        with suppress(OSError):  # the command runs all the same
            _write(path / "cgroup.procs", b"0")


def find(command_id: str) -> list[Path]:
    """The cgroups that earlier runs of the agent made for the command, wherever those ran."""
    mount = _mount()
    if mount is None:
        return []
    name = f"{_PREFIX}{command_id}"
    return [Path(folder) / name for folder, folders, _ in os.walk(mount[1]) if name in folders]


def pids(path: Path) -> set[int]:
    """The processes in the cgroup, and in those below it."""
    found: set[int] = set()
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            found.update(map(int, (Path(folder) / "cgroup.procs").read_bytes().split()))
    return found


def remove(path: Path | None) -> None:
    """Remove the cgroup and those below it, unless processes are in them."""
    if path is None:
        return
    for folder, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


@cache
def _own_folder() -> Path | None:
    """The folder of this process's cgroup, if this process may make cgroups in it."""
    mount = _mount()
    if mount is None:
        return None
    root, at = mount
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            path = line.removeprefix("0::")
            if path.startswith("/..") or not path.startswith(root):
                return None  # outside of the namespace's view
            folder = at / path[len(root) :].lstrip("/")
            return folder if _is_delegated(folder) else None
    return None


@cache
def _mount() -> tuple[str, Path] | None:
    """The root of the mounted part of the hierarchy, and the folder where it is mounted."""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if found := _MOUNT.match(line):
                return found["root"].rstrip("/"), Path(found["at"])
    return None


def _is_delegated(folder: Path) -> bool:
    if not all(os.access(path, os.W_OK) for path in (folder, folder / "cgroup.procs")):
        return False
    if os.geteuid() != 0 or not Path("/run/systemd/system").exists():
        return True
    # Root may write everywhere, but below a unit that is not delegated, systemd alone makes cgroups.
    with suppress(OSError):
        return os.getxattr(folder, "user.delegate") == b"1"
    return False
