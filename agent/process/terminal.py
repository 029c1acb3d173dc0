"""The agent's one terminal: its bytes, numbered and kept until the server has them, and its size."""

from __future__ import annotations

import fcntl
import re
import struct
import termios
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from onsembl.protocol.stream import Outbox

OUTBOX_BYTES = 8 * 1024 * 1024
"""What may wait for the server before the program has to."""
AHEAD_BYTES = 128 * 1024
"""What may wait for a connection that is there: what a program answers to a key is behind what it wrote before."""
RESTORE_COLOURS = b"\x1b[0m"
RESTORE_SCREEN = b"\x1b7\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l" + RESTORE_COLOURS
"""What a full-screen program that was killed could not put back.

Leaving the alternate screen restores the cursor even where there was none to leave: it is saved first.
"""

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI (ECMA-48, 5.4)
    r"|\x1b[PX\]^_][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # control strings: OSC, DCS, SOS, PM, APC (5.6)
    r"|\x1b[ -/]*[0-~]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Text that was not meant for a terminal, safe for one: line feeds and tabs are all it may do."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


class TerminalBytes(Protocol):
    """The terminal's bytes until the server keeps them: `Outbox`, or one that is on disk too (`SpooledOutbox`)."""

    start: int
    sent: int
    end: int
    stream_id: UUID | None

    @property
    def full(self) -> bool: ...
    def append(self, data: bytes) -> int: ...
    def next_frame(self, limit: int) -> tuple[int, bytes] | None: ...
    def acknowledge(self, offset: int) -> None: ...
    def resume(self, offset: int) -> None: ...
    def began(self, stream_id: UUID) -> None: ...


class AgentTerminal:
    """Where every program of the agent writes. `on_output` is called when there is something to send."""

    def __init__(self, columns: int, rows: int, outbox: TerminalBytes | None = None, *, ends_line: bool = True) -> None:
        self.columns, self.rows = columns, rows
        self.outbox: TerminalBytes = outbox if outbox is not None else Outbox(OUTBOX_BYTES)
        self.on_output: Callable[[], None] = lambda: None
        self._on_room: list[Callable[[], None]] = []
        self._linked = False
        self._ends_line = ends_line

    @property
    def end(self) -> int:
        """The offset of the next byte."""
        return self.outbox.end

    @property
    def full(self) -> bool:
        """Whether programs should wait: there is no room, or the connection does not keep up."""
        outbox = self.outbox
        return outbox.full or (self._linked and outbox.end - outbox.sent >= AHEAD_BYTES)

    def write(self, data: bytes) -> None:
        """Bytes of a program, as they are."""
        if data:
            self.outbox.append(data)
            self._ends_line = data.endswith(b"\n")
            self.on_output()

    def control(self, sequence: bytes) -> None:
        """A sequence of the agent's own, which prints nothing."""
        self.outbox.append(sequence)
        self.on_output()

    def write_line(self, text: str) -> None:
        """A line of the agent's own, on a line of its own."""
        begin = b"" if self._ends_line else b"\r\n"
        self.write(begin + text.encode() + b"\r\n")

    def when_there_is_room(self, callback: Callable[[], None]) -> None:
        """Call back once the server has taken enough."""
        self._on_room.append(callback)

    def acknowledged(self, offset: int) -> None:
        """The server keeps what is below `offset`. Raises AcknowledgedUnsent."""
        self.outbox.acknowledge(offset)
        self._let_programs_go_on()

    def resume(self, offset: int) -> None:
        """Send from `offset` on, over the connection that there is. Raises CannotResume."""
        self.outbox.resume(offset)
        self._linked = True

    def next_frame(self, limit: int) -> tuple[int, bytes] | None:
        """`(offset, data)` of the next bytes to send, at most `limit`; None when all are sent."""
        frame = self.outbox.next_frame(limit)
        self._let_programs_go_on()
        return frame

    def unlinked(self) -> None:
        """The connection is over: what programs write is kept, as far as there is room."""
        self._linked = False
        self._let_programs_go_on()

    def _let_programs_go_on(self) -> None:
        if self._on_room and not self.full:
            waiting, self._on_room = self._on_room, []
            for callback in waiting:
                callback()

    def apply_size(self, descriptor: int, fewer_rows: int = 0) -> None:
        """Give a pseudo-terminal the present size, or one a little lower; its programs are told by SIGWINCH."""
        rows = max(1, self.rows - fewer_rows)
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, self.columns, 0, 0))
