"""All processes of a command: those of its session, its descendants, and those that tried to leave both.

A process is known by its session, by descent, or by the mark that every command finds in its environment and hands
down. On Linux the agent is also made the reaper of its descendants, so none can hide behind a dead parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import psutil

MARK = "ONSEMBL_COMMAND_ID"
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Make this process the parent of descendants whose own parents die; False where the system has no such thing."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


class ProcessTree:
    """The processes of one command, whose leader began a session of its own."""

    def __init__(self, leader: int, command_id: str) -> None:
        self._leader = leader
        self._mark = f"{MARK}={command_id}".encode()
        self._known: set[psutil.Process] = set()

    def alive(self) -> list[psutil.Process]:
        """Those that live now, zombies aside (those that are ours are reaped)."""
        found = {process for process in self._known if _lives(process)}
        children: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter():
            try:
                children.setdefault(process.ppid(), []).append(process)
                if process not in found and self._is_ours(process) and _lives(process):
                    found.add(process)
            except psutil.Error:
                continue
        pending = [process.pid for process in found]
        while pending:
            for child in children.get(pending.pop(), ()):
                if child not in found and _lives(child):
                    found.add(child)
                    pending.append(child.pid)
        self._known = found
        return sorted(found, key=lambda process: process.pid)

    def signal_group(self, number: signal.Signals) -> None:
        """To the leader's process group, as a terminal would."""
        try:
            os.killpg(self._leader, number)
        except ProcessLookupError:
            return

    def signal_all(self, number: signal.Signals) -> None:
        """To every process, wherever it went."""
        for process in self.alive():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.pid == self._leader:
            return True
        try:
            if os.getsid(process.pid) == self._leader:
                return True
        except (ProcessLookupError, PermissionError):
            return False
        return self._mark in _environment(process)


def stragglers(command_id: str) -> ProcessTree:
    """What an agent that died may have left of a command: found by the mark alone."""
    return ProcessTree(-1, command_id)


def _environment(process: psutil.Process) -> bytes:
    if sys.platform == "linux":
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as file:  # noqa: PTH123 — one of hundreds, each time
                return file.read()
        except OSError:
            return b""
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return b""
    return f"{MARK}={environment.get(MARK, '')}".encode()


def _lives(process: psutil.Process) -> bool:
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        if process.ppid() == os.getpid():
            _reap(process.pid)
    except psutil.Error:
        return False
    return False


def _reap(pid: int) -> None:
    if pid in RESERVED:
        return
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


RESERVED: set[int] = set()
"""Leaders, whose exit status their own waiter takes."""
