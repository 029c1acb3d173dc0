"""All processes of a command: those of its session, its descendants, and those that tried to leave both.

Where the agent is the reaper of its descendants (see `reaper`), whatever lives below it belongs to a command. Elsewhere
a process is known by its session, by descent, or by the mark that every command finds in its environment and hands
down. The mark alone tells what an agent that was killed has left behind.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil

from onsembl.agent.process.reaper import Reaper

MARK = "ONSEMBL_COMMAND_ID"
_LISTS_CHILDREN = Path("/proc/self/task").exists() and any(Path("/proc/self/task").glob("*/children"))


class ProcessTree:
    """The processes of one command, whose leader began a session of its own.

    Without a leader it is what an agent that died may have left of a command.
    """

    def __init__(self, reaper: Reaper, command_id: str, leader: int | None) -> None:
        self._reaper = reaper
        self._mark = _mark(command_id)
        self._leader = psutil.Process(leader) if leader is not None else None  # with its birth: pids come again
        self._known: set[psutil.Process] = set()
        _trees.add(self)

    def alive(self) -> list[psutil.Process]:
        """Those that live now; zombies do not. Looking at every process of the machine costs milliseconds."""
        self._reaper.collect()
        if self._leader is None or not self._reaper.adopts:
            self._known = self._search()
        elif self._reaper.childless():
            self._known = set()
        else:
            self._known = self._below_us()
        return sorted(self._known - _given_up, key=lambda process: process.pid)

    def gone(self) -> bool:
        """Whether nothing of it is left.

        A search passes from process to process while they fork, so that one look may miss a child whose parent died
        meanwhile; a second one finds it.
        """
        if self.alive():
            return False
        if self._reaper.adopts and self._leader is not None and _trees == {self} and not _given_up:
            return self._reaper.childless()
        return not self.alive()

    def signal_group(self, number: signal.Signals) -> None:
        """To the leader's process group, as a terminal would. The leader must not have been waited for."""
        if self._leader is not None:
            try:
                os.killpg(self._leader.pid, number)
            except (ProcessLookupError, PermissionError):  # PermissionError: none of them is ours to signal
                return

    def signal_all(self, number: signal.Signals) -> None:
        """To every process, wherever it went."""
        for process in self.alive():
            try:
                process.send_signal(number)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def close(self) -> None:
        """Nobody looks after it any more; what will not die is held against no later command."""
        _given_up.difference_update({process for process in _given_up if not _lives(process)})
        _given_up.update(process for process in self._known if _lives(process))
        _trees.discard(self)

    def _below_us(self) -> set[psutil.Process]:
        """Descendants of this process, less those of other commands."""
        assert self._leader is not None
        found: set[psutil.Process] = set()
        others = [tree for tree in _trees if tree is not self]
        for child in _children(psutil.Process()):
            if child.pid in self._reaper.leaders and child != self._leader:
                continue
            if others and any(tree._mark in _environment(child) for tree in others):
                continue
            try:
                found.update(process for process in (child, *_descendants(child)) if _lives(process))
            except psutil.NoSuchProcess:
                continue
        return found

    def _search(self) -> set[psutil.Process]:
        """Through all processes of the machine, by every sign."""
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
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        if self._leader is not None:
            if process == self._leader:
                return True
            try:
                if os.getsid(process.pid) == self._leader.pid and not self._leader_was_replaced():
                    return True
            except (ProcessLookupError, PermissionError):
                return False
        return self._mark in _environment(process)

    def _leader_was_replaced(self) -> bool:
        """Whether another program has the leader's pid, and with it a session of that number."""
        assert self._leader is not None
        try:
            return psutil.Process(self._leader.pid) != self._leader
        except psutil.NoSuchProcess:
            return False


def survivors(reaper: Reaper) -> list[psutil.Process]:
    """Whatever lives of any command of this agent: on Linux everything below it, elsewhere what its commands left that
    would not die and what those that run now are known to have."""
    reaper.collect()
    found = set(_given_up).union(*(tree._known for tree in _trees))  # pyright: ignore[reportPrivateUsage]
    if reaper.adopts:
        found.update(_descendants(psutil.Process()))
    return sorted((process for process in found if _lives(process)), key=lambda process: process.pid)


def nothing_left(reaper: Reaper) -> bool:
    """Whether nothing of any command lives: on Linux by the kernel's word that this process has no child, and because
    what an earlier run left, which is no child of this one, is not seen to live either."""
    return not survivors(reaper) and (not reaper.adopts or reaper.childless())


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    pending = [process]
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    """As Linux lists them, without a look at every process of the machine: many agents stop at the same moment.

    The list may miss one while others end (proc(5)); that none is left is the reaper's to say.
    """
    pids: list[str] = []
    try:
        for task in os.listdir(f"/proc/{process.pid}/task"):  # noqa: PTH208
            with open(f"/proc/{process.pid}/task/{task}/children") as file:  # noqa: PTH123
                pids += file.read().split()
    except FileNotFoundError:
        if sys.platform == "linux" and _LISTS_CHILDREN:
            return []  # it has ended
        return process.children()
    except OSError:
        return []
    found: list[psutil.Process] = []
    for pid in pids:
        try:
            found.append(psutil.Process(int(pid)))
        except psutil.NoSuchProcess:
            continue
    return found


def _mark(command_id: str) -> bytes:
    return f"{MARK}={command_id}".encode()


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
    return _mark(environment.get(MARK, ""))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) and process.is_running()
    except psutil.Error:
        return False


_trees: set[ProcessTree] = set()
_given_up: set[psutil.Process] = set()
