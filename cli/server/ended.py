"""Waiting for the end of processes that another one has started.

A process that has ended stays a zombie until its parent waits for it. Where that is process 1 of a container, it may do
so late or never, and psutil's `wait` returns only then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

LOOK_SECONDS = 0.02
"""The interval at which it is looked whether a process has ended."""


def has_ended(process: psutil.Process) -> bool:
    """Whether the process runs no more, even if its parent has not waited for it."""
    try:
        return process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) or not process.is_running()
    except psutil.NoSuchProcess:
        return True


def wait_until_ended(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended; return those that still run after so many seconds."""
    deadline = time.monotonic() + seconds
    processes = list(processes)
    while (left := [process for process in processes if not has_ended(process)]) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    for process in set(processes) - set(left):
        with suppress(psutil.Error):
            process.wait(0)  # One that we have started ourselves is a zombie no more.
    return left
