"""The agent's one terminal: its size, and its output, which the outbox keeps until the server has it."""

from __future__ import annotations

import fcntl
import logging
import re
import struct
import termios
import time
from collections import deque
from collections.abc import Callable

from onsembl.agent.answers import answer
from onsembl.agent.emulation import MAX_TITLES, TAB, Emulation, Query
from onsembl.agent.link.outbox import Outbox

logger = logging.getLogger(__name__)

AHEAD_BYTES = 128 * 1024
"""How much output may wait to be sent while connected. A program's answer to a key waits behind earlier output."""
PENDING_BYTES = 256 * 1024
"""How much output may wait to be followed. Of a flood, only this much is followed, when it matters."""

_LEAVE_ALTERNATE = "\x1b7\x1b[?1049l"
"""Leaving the alternate screen also restores the cursor, even where the program did not save it: so it is saved."""
_RESET = (
    "\x1b[!p"  # DECSTR: scroll region, origin, insert mode, colours, saved cursor; the cursor stays
    "\x0f\x1b(B\x1b)B\x1b*B\x1b+B"  # ASCII in G0 to G3, and G0 in use
    "\x1b[?5;45;69;1004;2004;2026;2031;2048l"
    "\x1b[?1;9;66;1000;1001;1002;1003;1005;1006;1015;1016l"
    "\x1b[?7;25h\x1b[4;20l\x1b>\x1b[0 q"
    "\x1b]8;;\x1b\\\x1b[0m"
)
_RESET_KEYS = "\x1b[<99u\x1b[=0u\x1b[>4m\x1b[0m"
_RESET_COLOURS = "\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\"
_ABORT = "\x18"
"""Ends a sequence that the program has left unfinished."""
_MAY_ASK = re.compile(rb"(?:\x1b\[|\xc2\x9b)[0-?]*[ -/]*[cnpqt]|\x1b[]PZ]|\xc2[\x90\x9d]")
_TAIL_BYTES = 64
_TOUCHES = re.compile(rb"[\x0e\x1b]|\xc2[\x80-\x9f]")


class _Budget:
    """How much time the search for queries may take: a tenth of the time, and up to half a second at once."""

    def __init__(self) -> None:
        self._left, self._at = _MOST_SECONDS, 0.0

    def has_room(self, now: float) -> bool:
        """Whether there is time left at `now`, in seconds of a clock that never goes back."""
        self._left = min(_MOST_SECONDS, self._left + (now - self._at) * _SHARE)
        self._at = now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        """Note the time that was spent."""
        self._left -= seconds


_MOST_SECONDS, _SHARE = 0.5, 0.1


def _restoring(emulation: Emulation) -> str:
    """What makes a terminal sane, of which the cursor is then placed."""
    unsure, tabs = emulation.unsure, ""
    if emulation.tabs is not None or unsure:
        stops = range(TAB, emulation.columns, TAB)
        tabs = "\x1b[3g" + "".join(f"\x1b[{stop + 1}G\x1bH" for stop in stops) + "\r"
    return "".join(
        (
            _ABORT if emulation.within_sequence or unsure else "",
            _LEAVE_ALTERNATE if emulation.in_alternate or unsure else "",
            _RESET,
            _RESET_KEYS if emulation.other_keys or unsure else "",
            _RESET_COLOURS if emulation.colours or unsure else "",
            "\x1b[23;0t" * (emulation.titles if not unsure else MAX_TITLES),
            tabs,
        )
    )


class AgentTerminal:
    """The terminal that shows every program of the agent. `on_output` is called when there is output to send."""

    def __init__(self, columns: int, rows: int, outbox: Outbox) -> None:
        self.columns, self.rows = columns, rows
        self.outbox = outbox
        self.stream_id = outbox.stream_id
        """The stream by which the present command's bytes are numbered."""
        self._base = outbox.base
        self.on_output: Callable[[], None] = lambda: None
        self._on_room: list[Callable[[], None]] = []
        self._connected = False
        self._emulation = Emulation(columns, rows)
        self._emulation.on_query = self._asked
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._tail = b""
        self._answers: list[str] = []
        self._budget = _Budget()
        self._may_ask = False
        self._touched = False
        """Whether a program may have set something since the terminal was made sane."""
        if outbox.end > 0:
            self._emulation.skip(b"")  # the output of an earlier run is not followed
            self._touched = True

    def number_anew(self) -> None:
        """Number the bytes by the outbox's present stream, for the next command.

        A command's bytes keep its numbers while it runs, also when the outbox begins another stream: the server knows
        where that one begins.
        """
        self.stream_id, self._base = self.outbox.stream_id, self.outbox.base

    @property
    def end(self) -> int:
        """The offset of the next byte in the stream `stream_id`."""
        return self.outbox.base + self.outbox.end - self._base

    @property
    def full(self) -> bool:
        """Whether programs should wait: the outbox is full, or the connection is slower than the output."""
        outbox = self.outbox
        return outbox.full or (self._connected and outbox.end - outbox.sent >= AHEAD_BYTES)

    def write(self, data: bytes) -> None:
        """Append a program's output, unchanged."""
        if data:
            self.outbox.append(data)
            self.on_output()
            self._touched = self._touched or _touches(data)
            self._follow(data)

    def write_asking(self, data: bytes) -> bool:
        """Append the output of a program that has a keyboard; return whether there may be queries in it, for
        `answers`."""
        self.write(data)
        recent = self._tail + data
        self._tail = recent[-_TAIL_BYTES:] if b"\x1b" in recent or b"\xc2" in recent else b""
        self._may_ask = self._may_ask or self._emulation.within_sequence or _MAY_ASK.search(recent) is not None
        return self._may_ask

    def answers(self) -> bytes | None:
        """What a terminal answers to the queries in the output so far.

        None when the search for queries has taken so much time that output goes first: ask again later. What a flood
        asks beyond `PENDING_BYTES` meanwhile is not answered.
        """
        began = time.monotonic()
        if not self._budget.has_room(began):
            return None
        self._catch_up()
        self._may_ask = False
        self._budget.spend(time.monotonic() - began)
        answers, self._answers = self._answers, []
        return "".join(answers).encode()

    def write_line(self, text: str) -> None:
        """Append a line of the agent's own; a program's unfinished line is ended first."""
        self._catch_up()
        begin = "" if self._emulation.on_fresh_line else "\r\n"
        self._write_own(begin + text + "\r\n")

    def make_sane(self) -> None:
        """Undo whatever a program has left behind, and put the cursor on a fresh line below everything.

        That is: the main screen and all of it scrolls, ASCII, the usual modes, keys and colours, no mouse reports.
        """
        self._catch_up()
        emulation, to_the_bottom = self._emulation, False
        if self._touched:
            to_the_bottom = emulation.unsure
            self._write_own(_restoring(emulation))
            self._touched = emulation.unsure = emulation.other_keys = False
            emulation.tabs, emulation.titles, emulation.colours = None, 0, {}
        screen = emulation.screen
        if to_the_bottom or not emulation.on_fresh_line:
            down = emulation.rows if to_the_bottom else screen.lowest - screen.y
            self._write_own((f"\x1b[{down}B" if down > 0 else "") + ("\r\n" if down >= 0 else "\r"))
        self._answers.clear()
        self._may_ask = False

    def _write_own(self, text: str) -> None:
        data = text.encode(errors="replace")
        self.outbox.append(data)
        self.on_output()
        self._follow(data)
        self._catch_up()

    def _follow(self, data: bytes) -> None:
        """Note output that the emulation is to follow; it does so when that matters, not on the way of the bytes."""
        if (self.columns, self.rows) != (self._emulation.columns, self._emulation.rows):
            self._catch_up()
            self._emulation.resize(self.columns, self.rows)
        self._pending.append(data)
        self._pending_bytes += len(data)
        while self._pending_bytes > PENDING_BYTES:
            passed_over = self._pending.popleft()
            self._pending_bytes -= len(passed_over)
            self._emulation.skip(passed_over)

    def _catch_up(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        try:
            self._emulation.feed(data)
        except Exception:
            # A fault of the emulation costs a program an answer; the bytes are not its concern.
            logger.exception("The terminal's output cannot be followed", extra={"action": "emulation_failed"})
            self._emulation = Emulation(self.columns, self.rows)
            self._emulation.on_query = self._asked
            self._emulation.skip(b"")

    def _asked(self, query: Query) -> None:
        self._answers.append(answer(query, self._emulation))

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

    def write_again(self) -> bool:
        """Write to disk what is in memory alone; return whether that succeeds. Programs that waited for it go on."""
        written = self.outbox.write_again()
        self._resume_programs()
        return written

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


def _touches(data: bytes) -> bool:
    """Whether output may set anything, rather than only show text."""
    maybe = b"\x1b" in data or b"\x0e" in data or b"\xc2" in data
    return maybe and _TOUCHES.search(data) is not None
