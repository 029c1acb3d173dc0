"""Whether a program waits for input at its terminal, by the kernel's word (Linux).

`/proc/PID/syscall` names the system call in which a process sleeps, and its first argument. A `read` of the terminal is
certain; a program that handles keys itself mostly sleeps in `select` or `poll` with the terminal in raw mode. Where the
kernel does not tell that, `/proc/PID/wchan` may name the terminal's read function.
"""

from __future__ import annotations

import os
import platform
import termios
from pathlib import Path

from onsembl.agent.process.terminal_flush import LOCAL_MODES

_READ = {"x86_64": 0, "aarch64": 63}
_WAIT = {
    "x86_64": {7, 23, 232, 270, 271, 281},  # poll, select, epoll_wait, pselect6, ppoll, epoll_pwait
    "aarch64": {22, 72, 73},  # epoll_pwait, pselect6, ppoll
}
_TTY_READ = "n_tty_read"


def reads_terminal(pty: int, tty: str, proc: Path = Path("/proc")) -> bool:
    """Whether a process of the foreground sleeps in a read of its terminal. `pty` is the descriptor of the controlling
    side, `tty` the name of the program's side. False where the kernel does not tell."""
    try:
        group = os.tcgetpgrp(pty)
        is_raw = not termios.tcgetattr(pty)[LOCAL_MODES] & termios.ICANON
    except (OSError, termios.error):  # the program has ended
        return False
    return any(_reads(proc / str(pid), tty, is_raw) for pid in _members(group, proc))


def _members(group: int, proc: Path) -> list[int]:
    """The processes of a process group."""
    pids: list[int] = []
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            try:
                # The command's name, in parentheses, may have any characters.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if len(fields) > 2 and fields[2] == str(group):
                pids.append(int(entry.name))
    return pids


def _reads(process: Path, tty: str, is_raw: bool) -> bool:
    machine = platform.machine()
    try:
        fields = (process / "syscall").read_text().split()
    except OSError:
        fields = []
    if len(fields) < 2 or not fields[0].isdecimal():  # running, or not told
        try:
            return not fields and (process / "wchan").read_text() == _TTY_READ
        except OSError:
            return False
    number = int(fields[0])
    if number == _READ.get(machine):
        return _is_terminal(process, int(fields[1], 16), tty)
    return is_raw and number in _WAIT.get(machine, ()) and _is_terminal(process, 0, tty)


def _is_terminal(process: Path, descriptor: int, tty: str) -> bool:
    try:
        return str((process / "fd" / str(descriptor)).readlink()) in (tty, "/dev/tty")
    except OSError:
        return False
