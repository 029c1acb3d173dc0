"""The agent's one terminal: its size, and its output, which the outbox keeps until the server has it."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable

from onsembl.agent.link.outbox import Outbox

AHEAD_BYTES = 128 * 1024
"""How much output may wait to be sent while connected. A program's answer to a key waits behind earlier output."""
RESTORE_COLOURS = b"\x1b[0m"
RESTORE_SCREEN = b"\x1b7\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l" + RESTORE_COLOURS
"""Restores the screen after a full-screen program that was killed.

Leaving the alternate screen also restores the cursor, even where the program did not use it: so the cursor is saved
first.
"""


class AgentTerminal:
    """The terminal that shows every program of the agent. `on_output` is called when there is output to send."""

    def __init__(self, columns: int, rows: int, outbox: Outbox) -> None:
        self.columns, self.rows = columns, rows
        self.outbox = outbox
        self.on_output: Callable[[], None] = lambda: None
        self._on_room: list[Callable[[], None]] = []
        self._connected = False
        self._ends_line = outbox.ends_line

    @property
    def end(self) -> int:
        """The offset of the next byte."""
        return self.outbox.end

    @property
    def full(self) -> bool:
        """Whether programs should wait: the outbox is full, or the connection is slower than the output."""
        outbox = self.outbox
        return outbox.full or (self._connected and outbox.end - outbox.sent >= AHEAD_BYTES)

    def write(self, data: bytes) -> None:
        """Append a program's output, unchanged."""
        if data:
            self.outbox.append(data)
            self._ends_line = data.endswith(b"\n")
            self.on_output()

    def control(self, sequence: bytes) -> None:
        """Append a control sequence of the agent's own, which prints nothing."""
        self.outbox.append(sequence)
        self.on_output()

    def write_line(self, text: str) -> None:
        """Append a line of the agent's own; a program's unfinished line is ended first."""
        begin = b"" if self._ends_line else b"\r\n"
        self.write(begin + text.encode(errors="replace") + b"\r\n")

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back when programs may write again."""
        self._on_room.append(callback)

    def acknowledged(self, offset: int) -> None:
        """Drop the bytes below `offset`, which the server keeps. Raises AcknowledgedUnsent."""
        self.outbox.acknowledge(offset)
        self._resume_programs()

    def resume(self, offset: int) -> None:
        """Send from `offset` on, over the present connection. Raises CannotResume."""
        self.outbox.resume(offset)
        self._connected = True

    def next_frame(self, limit: int) -> tuple[int, bytes] | None:
        """`(offset, data)` of the next bytes to send, at most `limit`; None when all are sent."""
        frame = self.outbox.next_frame(limit)
        self._resume_programs()
        return frame

    def disconnected(self) -> None:
        """Note that the connection has ended: the outbox keeps output while it has room."""
        self._connected = False
        self._resume_programs()

    def _resume_programs(self) -> None:
        if self._on_room and not self.full:
            waiting, self._on_room = self._on_room, []
            for callback in waiting:
                callback()

    def apply_size(self, descriptor: int, fewer_rows: int = 0) -> None:
        """Set a pseudo-terminal's size, `fewer_rows` less than the terminal has; its programs get SIGWINCH."""
        rows = max(1, self.rows - fewer_rows)
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, self.columns, 0, 0))
