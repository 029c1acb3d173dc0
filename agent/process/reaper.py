"""Reaps child processes that have ended, so that no zombie is left, and passes each exit status to its waiter.

On Linux the agent is the reaper of all its descendants (prctl PR_SET_CHILD_SUBREAPER): a descendant whose parent dies
becomes a child of the agent, however it tried to detach. So the agent has a child for as long as any process of a
command lives, and the kernel's answer that it has none proves that all of them are gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36


class Reaper:
    """Make one for a program, in its main thread, with the event loop running; close it before the loop ends.

    With `adopt`, orphaned descendants become children of this process, where the system supports that. Every child of
    the process is then waited for by the reaper, and must not be waited for anywhere else.
    """

    def __init__(self, *, adopt: bool) -> None:
        self.adopts = adopt and _become_subreaper()
        """Whether every orphaned descendant becomes a child of this process."""
        self._leaders: dict[int, tuple[subprocess.Popen[bytes], asyncio.Future[int]]] = {}
        self._child_ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self.collect)

    def watch(self, child: subprocess.Popen[bytes]) -> asyncio.Future[int]:
        """A future of the child's exit status, or minus the signal that ended it.

        Call it before the loop runs again after the child was started.
        """
        ended: asyncio.Future[int] = self._loop.create_future()
        self._leaders[child.pid] = (child, ended)
        return ended

    def forget(self, child: subprocess.Popen[bytes]) -> None:
        """Stop watching a child whose exit status nobody needs any more."""
        if child.returncode is None and self._leaders.pop(child.pid, None) is not None:
            child.returncode = -signal.SIGKILL  # it survived every signal, and its end will not be reported

    def collect(self) -> None:
        """Take the exit status of every child that has ended."""
        if self.adopts:
            while (found := _wait(-1)) is not None:
                self._ended(*found)
        else:
            for pid in list(self._leaders):
                if (found := _wait(pid)) is not None:
                    self._ended(*found)
        self._child_ended.set()

    def childless(self) -> bool:
        """Whether this process has no child, neither a living one nor a zombie."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    @property
    def leaders(self) -> set[int]:
        """The pids of watched children that have not ended."""
        return set(self._leaders)

    async def wait_for_exit(self, seconds: float) -> None:
        """Wait until any child ends, for at most `seconds`."""
        self._child_ended.clear()
        try:
            await asyncio.wait_for(self._child_ended.wait(), seconds)
        except TimeoutError:
            return

    def close(self) -> None:
        """Stop handling SIGCHLD."""
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def _ended(self, pid: int, status: int) -> None:
        leader = self._leaders.pop(pid, None)
        if leader is not None:  # otherwise the child is an adopted orphan, for which nobody else waits
            child, ended = leader
            child.returncode = os.waitstatus_to_exitcode(status)
            if not ended.done():
                ended.set_result(child.returncode)


def _wait(pid: int) -> tuple[int, int] | None:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return (found, status) if found else None


def _become_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
