"""Flushes keys that were typed into a pseudo-terminal and that its program has not read."""

from __future__ import annotations

import os
import termios

LOCAL_MODES = 3
"""The index of the local modes in what `termios.tcgetattr` returns."""


def flush_unread(pty: int, tty: str) -> None:
    """Flush the unread input, so that the terminal takes the interrupt key that is typed next.

    `pty` is the descriptor of the controlling side, `tty` the name of the program's side. A terminal whose input is
    full takes no further key until its program reads, and a program that is to be interrupted may never read. The
    terminal flushes its input at an interrupt key anyway; here that happens just before. Where the program handles the
    key itself (a raw terminal), nothing is flushed and all keys keep their order.
    """
    try:
        if not termios.tcgetattr(pty)[LOCAL_MODES] & termios.ISIG:
            return
        termios.tcflush(pty, termios.TCOFLUSH)  # keys that have not reached the program's side
        terminal = os.open(tty, os.O_RDWR | os.O_NOCTTY)
        try:
            termios.tcflush(terminal, termios.TCIFLUSH)
        finally:
            os.close(terminal)
    except (OSError, termios.error):
        return  # the program has ended, or has the terminal for exclusive use
