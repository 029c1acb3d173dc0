"""Wall clocks that a test moves: of Postgres by libfaketime where it is installed, and of forked processes.

Monotonic clocks stay as they are, as on a machine whose clock is set.
"""

from __future__ import annotations

import mmap
import shlex
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from support.postgres import server_of

CLOCK = "ONSEMBL_TEST_CLOCK"
"""The variable that names the file with the seconds by which a process's `time.time` is ahead."""
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class ProcessClock:
    """The wall clock of processes that have `environment`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0.0)
        self.environment = {CLOCK: str(path)}

    def set(self, seconds: float) -> None:
        """Set how many seconds the clock is ahead of the true one."""
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))


def follow_clock(environment: Mapping[str, str]) -> None:
    """Let `time.time` of this process follow the clock that its environment names, if any."""
    if CLOCK not in environment:
        return
    with Path(environment[CLOCK]).open("rb") as file:
        ahead = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    true = time.time
    time.time = lambda: true() + struct.unpack("d", ahead[:])[0]


class PostgresWithClock(server_of):
    """A server whose clock a test moves, if libfaketime is installed."""

    has_clock = bool(LIBRARIES)

    def set_clock(self, seconds: int) -> None:
        """Set how many seconds the clock is ahead of the true one."""
        partial = self._clock.with_suffix(".partial")
        partial.write_text(f"{seconds:+d}\n")
        partial.replace(self._clock)  # a process that reads it meanwhile has the old time or the new one

    @property
    def _clock(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}-clock")  # not on the server's disk, which may be full

    def _binaries(self) -> Path:
        """A folder with a `pg_ctl` that starts servers with the library."""
        binaries = super()._binaries()
        if not self.has_clock:
            return binaries
        folder = self._folder / "programs-with-clock"
        if not folder.exists():
            self.set_clock(0)
            folder.mkdir()
            variables = {
                "LD_PRELOAD": LIBRARIES[0],
                "FAKETIME_TIMESTAMP_FILE": self._clock,
                "FAKETIME_NO_CACHE": 1,
                "FAKETIME_DONT_FAKE_MONOTONIC": 1,
                "DONT_FAKE_MONOTONIC": 1,
                "FAKETIME_DISABLE_SHM": 1,
            }
            set_them = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())
            program = folder / "pg_ctl"
            program.write_text(f'#!/bin/sh\nexec env {set_them} {shlex.quote(str(binaries / "pg_ctl"))} "$@"\n')
            program.chmod(0o755)
            folder.chmod(0o755)
            self._clock.chmod(0o644)
        return folder
