"""All processes of a command: its session, its descendants, and processes that tried to detach from both.

Where the agent is the reaper of its descendants (see `reaper`), every process below it belongs to a command. Elsewhere
a process is recognised by its session, by descent, or by the environment variable that each command's program gets and
passes on to its children. Processes that a killed agent has left behind are recognised by that variable, and by the
command's cgroup where there is one.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil

from onsembl.agent.process import cgroup as cgroups
from onsembl.agent.process.reaper import Reaper

COMMAND_ID_VARIABLE = "ONSEMBL_COMMAND_ID"
_LISTS_CHILDREN = Path("/proc/self/task").exists() and any(Path("/proc/self/task").glob("*/children"))


class ProcessTree:
    """The processes of one command, whose leader started a session of its own.

    Without a leader, these are processes that an earlier run of the agent may have left behind. `cgroup` is the
    command's, if it has one.
    """

    def __init__(self, reaper: Reaper, command_id: str, leader: int | None, cgroup: Path | None = None) -> None:
        self._reaper = reaper
        self._variable = _variable(command_id)
        self._leader = psutil.Process(leader) if leader is not None else None  # with its start time: pids recur
        self._cgroups = cgroups.find(command_id) if leader is None else [cgroup] if cgroup is not None else []
        self._known: set[psutil.Process] = set()
        _trees.add(self)

    def alive(self) -> list[psutil.Process]:
        """The processes that are alive, without zombies. A search of the whole machine takes milliseconds."""
        self._reaper.collect()
        if self._leader is None or not self._reaper.adopts:
            self._known = self._search()
        elif self._reaper.childless():
            self._known = set()
        else:
            self._known = self._agent_descendants()
        return sorted(self._known - _unkillable, key=lambda process: process.pid)

    def is_gone(self) -> bool:
        """Whether no process is left.

        A search walks from process to process while they fork, so it may miss a child whose parent dies meanwhile; a
        second search finds that child.
        """
        if self.alive():
            return False
        if self._reaper.adopts and self._leader is not None and _trees == {self} and not _unkillable:
            return self._reaper.childless()
        return not self.alive()

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the leader's process group, as a terminal does it. The leader must not have been waited for."""
        if self._leader is not None:
            try:
                os.killpg(self._leader.pid, number)
            except (ProcessLookupError, PermissionError):  # PermissionError: all belong to another user
                return

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every process of the command, also outside its process group."""
        for process in self.alive():
            try:
                process.send_signal(number)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def close(self) -> None:
        """Stop tracking the command; processes that survived every signal are not counted to later commands."""
        _unkillable.difference_update({process for process in _unkillable if not _is_alive(process)})
        _unkillable.update(process for process in self._known if _is_alive(process))
        _trees.discard(self)
        for cgroup in self._cgroups:
            cgroups.remove(cgroup)

    def _agent_descendants(self) -> set[psutil.Process]:
        """Descendants of the agent, without those of other commands."""
        assert self._leader is not None
        found: set[psutil.Process] = set()
        others = [tree for tree in _trees if tree is not self]
        for child in _children(psutil.Process()):
            if child.pid in self._reaper.leaders and child != self._leader:
                continue
            if others and any(tree._variable in _environment(child) for tree in others):
                continue
            try:
                found.update(process for process in (child, *_descendants(child)) if _is_alive(process))
            except psutil.NoSuchProcess:
                continue
        return found

    def _search(self) -> set[psutil.Process]:
        """The command's processes, searched among all processes of the machine."""
        found = {process for process in self._known if _is_alive(process)}
        members = set[int]().union(*map(cgroups.pids, self._cgroups))
        children: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter():
            try:
                children.setdefault(process.ppid(), []).append(process)
                belongs = process.pid in members or self._belongs(process)
                if process not in found and belongs and _is_alive(process):
                    found.add(process)
            except psutil.Error:
                continue
        pending = [process.pid for process in found]
        while pending:
            for child in children.get(pending.pop(), ()):
                if child not in found and _is_alive(child):
                    found.add(child)
                    pending.append(child.pid)
        return found

    def _belongs(self, process: psutil.Process) -> bool:
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
        return self._variable in _environment(process)

    def _leader_was_replaced(self) -> bool:
        """Whether a later process has the leader's pid, and a session of that number."""
        assert self._leader is not None
        try:
            return psutil.Process(self._leader.pid) != self._leader
        except psutil.NoSuchProcess:
            return False


def surviving_processes(reaper: Reaper) -> list[psutil.Process]:
    """The living processes of all commands of this agent.

    On Linux these are all its descendants. Elsewhere they are the processes that survived a stop, and the known
    processes of running commands.
    """
    reaper.collect()
    found = set(_unkillable).union(*(tree._known for tree in _trees))  # pyright: ignore[reportPrivateUsage]
    if reaper.adopts:
        found.update(_descendants(psutil.Process()))
    return sorted((process for process in found if _is_alive(process)), key=lambda process: process.pid)


def no_process_left(reaper: Reaper) -> bool:
    """Whether no process of any command is alive.

    On Linux the kernel confirms that this process has no child. Processes of an earlier run of the agent, which are no
    children of this one, must not be alive either.
    """
    return not surviving_processes(reaper) and (not reaper.adopts or reaper.childless())


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    pending = [process]
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    """Children as Linux lists them, without a search of the whole machine: many agents may stop at the same moment.

    The list may miss a child while others end (proc(5)); only the reaper can tell that none is left.
    """
    pids: list[str] = []
    try:
        for task in os.listdir(f"/proc/{process.pid}/task"):  # noqa: PTH208
            with open(f"/proc/{process.pid}/task/{task}/children") as file:  # noqa: PTH123
                pids += file.read().split()
    except FileNotFoundError:
        if sys.platform == "linux" and _LISTS_CHILDREN:
            return []  # the process has ended
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


def _variable(command_id: str) -> bytes:
    return f"{COMMAND_ID_VARIABLE}={command_id}".encode()


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
    return _variable(environment.get(COMMAND_ID_VARIABLE, ""))


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) and process.is_running()
    except psutil.Error:
        return False


_trees: set[ProcessTree] = set()
_unkillable: set[psutil.Process] = set()
