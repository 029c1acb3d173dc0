"""Children that have ended: their status to whoever waits for it, and no zombie left behind.

On Linux the agent is the reaper of all its descendants (prctl PR_SET_CHILD_SUBREAPER): one whose parent dies becomes a
child of the agent, however it tried to leave. So the agent has a child for as long as anything of a command lives, and
the kernel's word that it has none is the proof that everything is gone.
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
    """One a program, in its main thread, with the event loop running. Close it before the loop ends.

    With `adopt`, orphaned descendants become children of this process, where the system can do that; every child of
    the process is then waited for here and nowhere else.
    """

    def __init__(self, *, adopt: bool) -> None:
        self.adopts = adopt and _become_subreaper()
        """Whether no descendant can be lost."""
        self._leaders: dict[int, tuple[subprocess.Popen[bytes], asyncio.Future[int]]] = {}
        self._stirred = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self.collect)

    def watch(self, child: subprocess.Popen[bytes]) -> asyncio.Future[int]:
        """Its exit status, or minus the signal that ended it, when it has ended. Call before the loop goes on."""
        ended: asyncio.Future[int] = self._loop.create_future()
        self._leaders[child.pid] = (child, ended)
        return ended

    def forget(self, child: subprocess.Popen[bytes]) -> None:
        """Nobody waits for this one any more."""
        if child.returncode is None and self._leaders.pop(child.pid, None) is not None:
            child.returncode = -signal.SIGKILL  # it will not die, and its end will not be told

    def collect(self) -> None:
        """Take the status of every child that has ended."""
        if self.adopts:
            while (found := _wait(-1)) is not None:
                self._ended(*found)
        else:
            for pid in list(self._leaders):
                if (found := _wait(pid)) is not None:
                    self._ended(*found)
        self._stirred.set()

    def childless(self) -> bool:
        """Whether this process has no child at all, dead or alive."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    @property
    def leaders(self) -> set[int]:
        """Those that are watched and have not ended."""
        return set(self._leaders)

    async def wait_for_some_end(self, longest: float) -> None:
        """Until some child has ended, but no longer than that."""
        self._stirred.clear()
        try:
            await asyncio.wait_for(self._stirred.wait(), longest)
        except TimeoutError:
            return

    def close(self) -> None:
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def _ended(self, pid: int, status: int) -> None:
        leader = self._leaders.pop(pid, None)
        if leader is not None:  # else an orphan, which nobody else waits for
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
