"""A disk of a few MiB, to fill: a file system in memory, mounted for the test."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(mebibytes: int) -> Iterator[Path]:
    """Mount a file system of this size, which needs root; it is unmounted afterwards."""
    with tempfile.TemporaryDirectory(prefix="onsembl-disk-") as path:
        Path(path).chmod(0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "onsembl-test", path], check=True)
        try:
            yield Path(path)
        finally:
            subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def filled(disk: Path, keep: int = 0) -> Iterator[None]:
    """Fill the disk to its last byte, or to its last `keep` KiB, and free the space afterwards."""
    filler, reserve = disk / "filler", disk / "reserve"
    reserve.write_bytes(bytes(keep * 1024))
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 20)):
                pass
        except OSError:
            pass
        try:
            while file.write(bytes(1)):
                pass
        except OSError:
            pass
    reserve.unlink()
    try:
        yield
    finally:
        filler.unlink()
