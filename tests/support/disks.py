"""Small disks that a test fills and empties."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """A file system of a fixed size at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, keep: int = 0) -> None:
        """Leave no byte, or `keep` KiB."""
        reserve = self.path / "reserve"
        reserve.write_bytes(bytes(keep * 1024))
        with self._filler.open("ab", buffering=0) as filler:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    continue
        reserve.unlink()

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    @contextmanager
    def filled(self, keep: int = 0) -> Iterator[None]:
        """Full, or with `keep` KiB left, until the block ends."""
        self.fill(keep)
        try:
            yield
        finally:
            self.empty()


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Disk | None]:
    """A disk of this size at `path`, until the block ends. None, and a plain folder, where this user may mount none."""
    path.mkdir(parents=True)
    mounted = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", path],
            check=False,
            capture_output=True,
        ).returncode
        == 0
    )
    try:
        yield Disk(path) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def mounted_disk(megabytes: int) -> Iterator[Disk]:
    """A disk of this size where Postgres can reach it, until the block ends. Needs a user who may mount one: root."""
    with tempfile.TemporaryDirectory(prefix="onsembl-disk-") as folder:
        Path(folder).chmod(0o755)
        with small_disk(Path(folder) / "disk", megabytes) as disk:
            assert disk is not None, "this user may mount no file system"
            yield disk
