"""What was typed into a pseudo-terminal and no program has read."""

from __future__ import annotations

import os
import termios

_LOCAL_MODES = 3


def drop_unread(control: int, inside: str) -> None:
    """Make way for an interrupt key, in the terminal with this descriptor outside and this name inside.

    A terminal whose input is full looks at no further key until its program reads, and one that was to be interrupted
    may never. The terminal drops its input at an interrupt anyway; here it is dropped before. Where the program takes
    the key itself (a raw terminal) everything stays in order.
    """
    try:
        if not termios.tcgetattr(control)[_LOCAL_MODES] & termios.ISIG:
            return
        termios.tcflush(control, termios.TCOFLUSH)  # on its way inside
        terminal = os.open(inside, os.O_RDWR | os.O_NOCTTY)
        try:
            termios.tcflush(terminal, termios.TCIFLUSH)
        finally:
            os.close(terminal)
    except (OSError, termios.error):
        return  # its program is gone, or keeps it for itself
