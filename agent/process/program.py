"""One program in a session of its own: in a pseudo-terminal, or with its output on pipes for an adapter to read."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onsembl.agent.process.environment import command_environment
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.process.terminal import AgentTerminal
from onsembl.agent.process.terminal_flush import drop_unread
from onsembl.agent.process.tree import ProcessTree
from onsembl.agent.process.typed_ahead import TypedAhead
from onsembl.protocol.keyboard_messages import KeysRejection

READ_BYTES = 64 * 1024
REDRAW_SECONDS = 0.1
REDRAW_EVERY_SECONDS = 1.0
LAST_BYTES_SECONDS = 2.0
"""How long to wait for the end of the output when no process of the command is left: the rest is in the kernel, and
only a stranger who holds the other end can keep it from ending."""


HEEDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
"""What a program that starts does not ignore, though the agent may have been told to: by `nohup`, or by a script that
runs it behind itself. POSIX lets a program inherit that, and Ctrl-C would be lost on it."""


def _heed_signals() -> None:
    for number in HEEDED:
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a program runs: the folder, the terminal that shows it, and who waits for its end."""

    cwd: Path
    terminal: AgentTerminal
    reaper: Reaper
    arguments: Sequence[str] = ()
    """The operator's own arguments for the coding CLI."""


class Process:
    """A running program. `tree` has all that comes of it; `drain` takes its last bytes."""

    def __init__(self, child: subprocess.Popen[bytes], command_id: str, surroundings: Surroundings) -> None:
        self._child = child
        self._terminal = surroundings.terminal
        self._reaper = surroundings.reaper
        self._loop = asyncio.get_running_loop()
        self._readers: set[int] = set()
        self._writers: set[int] = set()
        self._resumed: list[Callable[[], None]] = []
        self._draining = False
        self._drained = asyncio.Event()
        self._control: int | None = None
        self._inside = ""
        self._typed: TypedAhead | None = None
        self._redrawn_at = float("-inf")
        self._redraw_due: asyncio.TimerHandle | None = None
        self._last_output = self._loop.time()
        self.exited = self._reaper.watch(child)
        """Done when the program itself has ended: its exit status, or minus the signal that ended it."""
        self.tree = ProcessTree(self._reaper, command_id, child.pid)

    @classmethod
    def in_terminal(cls, argv: Sequence[str], command_id: str, surroundings: Surroundings) -> Process:
        """Start `argv` in a pseudo-terminal whose bytes go to the terminal. Raises OSError."""
        control, inside = pty.openpty()
        try:
            name = os.ttyname(inside)
            surroundings.terminal.apply_size(inside)
            child = subprocess.Popen(
                argv,
                cwd=surroundings.cwd,
                env=command_environment(os.environ, command_id),
                preexec_fn=lambda: (os.login_tty(inside), _heed_signals()),
                pass_fds=(inside,),
            )
        except BaseException:
            os.close(control)
            raise
        finally:
            os.close(inside)
        os.set_blocking(control, False)
        process = cls(child, command_id, surroundings)
        process._control, process._inside, process._typed = control, name, TypedAhead(control)
        process._read_from(control, surroundings.terminal.write)
        return process

    @classmethod
    def on_pipes(
        cls,
        argv: Sequence[str],
        command_id: str,
        surroundings: Surroundings,
        text: str,
        on_output: Callable[[bytes], None],
    ) -> Process:
        """Start `argv` with `text` as its input and its output given to `on_output`; errors go to the terminal.

        Raises OSError.
        """
        child = subprocess.Popen(
            argv,
            cwd=surroundings.cwd,
            env=command_environment(os.environ, command_id),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_heed_signals,
        )
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        process = cls(child, command_id, surroundings)
        process._feed(os.dup(child.stdin.fileno()), text.encode())
        child.stdin.close()
        for stream, sink in ((child.stdout, on_output), (child.stderr, process._write_lines)):
            descriptor = os.dup(stream.fileno())
            stream.close()
            os.set_blocking(descriptor, False)
            process._read_from(descriptor, sink)
        return process

    @property
    def last_output(self) -> float:
        """When it last wrote something, on the loop's clock. One that is kept from writing is not silent."""
        return self._loop.time() if self._terminal.full else self._last_output

    async def drain(self) -> None:
        """The processes are gone: take what they wrote and was not read yet, also into a full terminal."""
        self._draining = True
        for resume in self._resumed:
            resume()
        if self._readers:
            try:
                await asyncio.wait_for(self._drained.wait(), LAST_BYTES_SECONDS)
            except TimeoutError:
                return

    def press(self, key: bytes) -> None:
        """A key that interrupts the program: ahead of what was typed and not read, which is dropped, as a terminal
        drops it. On pipes there is none."""
        if self._control is not None and self._typed is not None:
            self._typed.clear()
            drop_unread(self._control, self._inside)
            self._typed.add(key)

    def type(self, keys: bytes) -> KeysRejection | None:
        """Keys of a person, in order; why not, if not. A program that reads slowly gets them as it reads."""
        if self._typed is None:
            return "no_terminal"
        return None if self._typed.add(keys) else "too_much"

    def once_read(self, answer: Callable[[], None]) -> None:
        """Call `answer` when the program has read nearly all that was typed, or does not read."""
        if self._typed is None:
            answer()
        else:
            self._typed.once_read(answer)

    def redraw(self) -> None:
        """Have a full-screen program draw its screen anew, now or as soon as it may again: for a moment its terminal
        has a row less.

        Programs compare the size when they are told of a change, so it has to differ long enough for them to look.
        """
        if self._redraw_due is None:
            due = max(self._loop.time(), self._redrawn_at + REDRAW_EVERY_SECONDS)
            self._redraw_due = self._loop.call_at(due, self._redraw)

    def _redraw(self) -> None:
        self._redraw_due = None
        if self._control is not None:
            self._redrawn_at = self._loop.time()
            self._terminal.apply_size(self._control, fewer_rows=1)
            self._loop.call_later(REDRAW_SECONDS, self.resize)

    def resize(self) -> None:
        """The terminal has another size."""
        if self._control is not None:
            self._terminal.apply_size(self._control)

    def close(self) -> None:
        """Let go of what is left."""
        for descriptor in list(self._readers):
            self._end_reading(descriptor)
        for descriptor in list(self._writers):
            self._end_writing(descriptor)
        self.tree.close()
        self._reaper.forget(self._child)

    def _write_lines(self, data: bytes) -> None:
        # Pipes carry bare line feeds; a terminal needs the carriage returned.
        self._terminal.write(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))

    def _read_from(self, descriptor: int, sink: Callable[[bytes], None]) -> None:
        self._readers.add(descriptor)

        def readable() -> None:
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EIO:  # what Linux says when the last process has closed its end
                    raise
                data = b""
            if not data:
                self._end_reading(descriptor)
                return
            self._last_output = self._loop.time()
            sink(data)
            if self._terminal.full and not self._draining:
                self._loop.remove_reader(descriptor)
                self._terminal.when_there_is_room(resume)

        def resume() -> None:
            if descriptor in self._readers:
                self._loop.add_reader(descriptor, readable)

        self._resumed.append(resume)
        resume()

    def _end_reading(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        self._readers.discard(descriptor)
        if descriptor == self._control and self._typed is not None:
            self._typed.close()
            self._control = self._typed = None
        os.close(descriptor)
        if not self._readers:
            self._drained.set()

    def _feed(self, descriptor: int, data: bytes) -> None:
        os.set_blocking(descriptor, False)
        self._writers.add(descriptor)
        left = memoryview(data)

        def writable() -> None:
            nonlocal left
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:
                return
            except BrokenPipeError:
                left = left[len(left) :]
            if not left:
                self._end_writing(descriptor)

        self._loop.add_writer(descriptor, writable)

    def _end_writing(self, descriptor: int) -> None:
        self._loop.remove_writer(descriptor)
        self._writers.discard(descriptor)
        os.close(descriptor)
