"""One program in a session of its own: in a pseudo-terminal, or on pipes that a driver reads."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from onsembl.agent.mcp.gateway import ToolGateway
from onsembl.agent.process import cgroup as cgroups
from onsembl.agent.process.environment import command_environment
from onsembl.agent.process.line_limit import LineLimit
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.process.terminal_flush import LOCAL_MODES, flush_unread
from onsembl.agent.process.terminal_reader import reads_terminal
from onsembl.agent.process.tree import ProcessTree
from onsembl.agent.process.typeahead import Typeahead
from onsembl.agent.requests import Requests
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.turn_steps import Step

logger = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
REDRAW_SECONDS = 0.1
"""How long the terminal has a row less, at least, so that the program draws its screen anew."""
REDRAW_PATIENCE_SECONDS = 2.0
"""How long it has a row less, at most, while the program writes nothing: on a busy machine it may not have run yet."""
REDRAW_EVERY_SECONDS = 1.0
ANSWER_AGAIN_SECONDS = 0.1
"""How soon a program's queries are looked for again when output had to go first."""
LAST_BYTES_SECONDS = 2.0
"""How long to wait for the end of the output when no process of the command is left. The remaining bytes are in the
kernel; only an unrelated process that has the terminal open can delay the end."""


RESET_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
"""Signals that are set to their default for each program. The agent may ignore them, for example because `nohup` or a
script has started it in the background; its programs would inherit that, and ignore Ctrl-C."""


def _reset_signals() -> None:
    for number in RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


class StepSink(Protocol):
    """Takes the steps of commands, as they come."""

    def add(self, command_id: UUID, steps: list[Step], stream_id: UUID | None = None) -> None: ...

    def ended(self, command_id: UUID) -> None:
        """No more steps of the command will come."""
        ...


class NoSteps:
    """Drops all steps: of programs that run outside of commands."""

    def add(self, command_id: UUID, steps: list[Step], stream_id: UUID | None = None) -> None:
        pass

    def ended(self, command_id: UUID) -> None:
        pass


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """Where a program runs: its working folder, the terminal that shows it, and the reaper that waits for its end."""

    cwd: Path
    terminal: AgentTerminal
    reaper: Reaper
    arguments: Sequence[str] = ()
    """Further arguments for the coding CLI, from `onsembl agent run`."""
    steps: StepSink = field(default_factory=lambda: NoSteps())
    driver_folder: Path | None = None
    """Where the driver keeps files of its own."""
    requests: Requests = field(default_factory=Requests)
    """The requests that wait for a person."""
    tools: ToolGateway | None = None
    """Gives commands access to the agent's own tools."""
    open: set[Process] = field(default_factory=lambda: set[Process]())
    """The processes that were started here and are not closed."""


class Process:
    """A running program. `tree` has its processes; `drain` reads its last bytes."""

    def __init__(
        self, child: subprocess.Popen[bytes], command_id: str, context: ProcessContext, cgroup: Path | None
    ) -> None:
        self._child = child
        self._terminal = context.terminal
        self._reaper = context.reaper
        self._loop = asyncio.get_running_loop()
        self._readers: set[int] = set()
        self._input: int | None = None
        self._unwritten = bytearray()
        self._input_ends = False
        self._resumed: list[Callable[[], None]] = []
        self._draining = False
        self._drained = asyncio.Event()
        self._pty: int | None = None
        self._tty = ""
        self.on_terminal_output: Callable[[bytes], None] = lambda _data: None
        """Called with the output of a program in a pseudo-terminal."""
        self.on_typed: Callable[[], None] = lambda: None
        """Called when a person types."""
        self._inside: int | None = None
        """The program's side of the pseudo-terminal. A program that closes its side would otherwise seem to have ended,
        and could not open it again."""
        self._typeahead: Typeahead | None = None
        self._line_limit = LineLimit()
        self._redrawn_at = float("-inf")
        self._redraw_due: asyncio.TimerHandle | None = None
        self._answers_due: asyncio.TimerHandle | None = None
        self._last_output = self._loop.time()
        self.exited = self._reaper.watch(child)
        """Done when the program has ended: its exit status, or minus the signal that ended it."""
        self.failed: asyncio.Future[Exception] = self._loop.create_future()
        """Done when its output or its input cannot be handled any more: the error. The program should be stopped."""
        self.tree = ProcessTree(self._reaper, command_id, child.pid, cgroup)
        self._open = context.open
        self._open.add(self)

    @classmethod
    def in_terminal(cls, argv: Sequence[str], command_id: str, context: ProcessContext) -> Process:
        """Start `argv` in a pseudo-terminal whose output goes to the agent's terminal. Raises OSError."""
        cgroup = cgroups.make(command_id)
        control, inside = pty.openpty()
        try:
            name = os.ttyname(inside)
            context.terminal.apply_size(inside)
            child = subprocess.Popen(
                argv,
                cwd=context.cwd,
                env=command_environment(os.environ, command_id),
                preexec_fn=lambda: (cgroups.join(cgroup), os.login_tty(inside), _reset_signals()),
                pass_fds=(inside,),
            )
        except BaseException:
            os.close(control)
            cgroups.remove(cgroup)
            os.close(inside)
            raise
        os.set_blocking(control, False)
        process = cls(child, command_id, context, cgroup)
        process._pty, process._tty, process._typeahead = control, name, Typeahead(control)
        process._inside = inside
        process._read_from(control, process._from_program)
        return process

    @classmethod
    def on_pipes(
        cls,
        argv: Sequence[str],
        command_id: str,
        context: ProcessContext,
        on_output: Callable[[bytes], None],
        on_error: Callable[[bytes], None],
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Process:
        """Start `argv` with its output and its error output passed to these callbacks, and with these further variables
        in its environment.

        Its input is what `write_input` is given, until `end_input`. Raises OSError.
        """
        cgroup = cgroups.make(command_id)
        try:
            child = subprocess.Popen(
                argv,
                cwd=context.cwd,
                env={**command_environment(os.environ, command_id), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=lambda: (cgroups.join(cgroup), _reset_signals()),
            )
        except BaseException:
            cgroups.remove(cgroup)
            raise
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        process = cls(child, command_id, context, cgroup)
        process._input = os.dup(child.stdin.fileno())
        os.set_blocking(process._input, False)
        child.stdin.close()
        for stream, sink in ((child.stdout, on_output), (child.stderr, on_error)):
            descriptor = os.dup(stream.fileno())
            stream.close()
            os.set_blocking(descriptor, False)
            process._read_from(descriptor, sink)
        return process

    @property
    def last_output(self) -> float:
        """When the program last wrote, on the loop's clock; now while a full terminal keeps it from writing."""
        return self._loop.time() if self._terminal.full else self._last_output

    async def drain(self) -> None:
        """Read the output that is left when the processes are gone, also into a full terminal."""
        self._draining = True
        self._close_inside()
        for resume in self._resumed:
            resume()
        if self._readers:
            try:
                await asyncio.wait_for(self._drained.wait(), LAST_BYTES_SECONDS)
            except TimeoutError:
                return

    def write_input(self, data: bytes) -> None:
        """Write to the standard input of a program on pipes, as fast as it reads. After its end nothing happens."""
        if self._input is not None and not self._input_ends:
            self._unwritten += data
            self._write_unwritten()

    def end_input(self) -> None:
        """Close the standard input of a program on pipes when it has read everything."""
        self._input_ends = True
        self._write_unwritten()

    def press_interrupt(self, key: bytes) -> None:
        """Type a key that interrupts the program; unread keys are dropped, as a terminal drops them at such a key.

        Without a pseudo-terminal nothing happens.
        """
        if self._pty is not None and self._typeahead is not None:
            self._typeahead.clear()
            flush_unread(self._pty, self._tty)
            self._typeahead.add(key)

    def type(self, keys: bytes) -> KeysRejection | None:
        """Type an operator's keys after the earlier ones; return the reason when they are rejected.

        A program that reads slowly gets the keys as it reads.
        """
        if self._typeahead is None:
            return "no_terminal"
        if not self._line_limit.accepts(keys, canonical=self._reads_lines()):
            return "line_too_long"
        if not self._typeahead.add(keys):
            return "too_much"
        self.on_typed()
        return None

    def reads_terminal(self) -> bool:
        """Whether the program sleeps in a read of its pseudo-terminal, as far as the kernel tells."""
        return self._pty is not None and reads_terminal(self._pty, self._tty)

    def _reads_lines(self) -> bool:
        """Whether the terminal gives its program whole lines (canonical mode)."""
        try:
            return self._pty is not None and bool(termios.tcgetattr(self._pty)[LOCAL_MODES] & termios.ICANON)
        except (OSError, termios.error):  # the program has ended
            return False

    def when_read(self, answer: Callable[[], None]) -> None:
        """Call `answer` when the program has read nearly all typed keys, or does not read."""
        if self._typeahead is None:
            answer()
        else:
            self._typeahead.when_read(answer)

    def redraw(self) -> None:
        """Make a full-screen program draw its screen anew, by a moment in which its terminal has a row less.

        A program compares the sizes when SIGWINCH comes, so the size has to differ until it has looked. If the last
        redraw is too recent, this one follows later.
        """
        if self._redraw_due is None:
            due = max(self._loop.time(), self._redrawn_at + REDRAW_EVERY_SECONDS)
            self._redraw_due = self._loop.call_at(due, self._redraw)

    def _redraw(self) -> None:
        self._redraw_due = None
        if self._pty is not None:
            self._redrawn_at = self._loop.time()
            self._terminal.apply_size(self._pty, fewer_rows=1)
            self._loop.call_later(REDRAW_SECONDS, self._end_redraw, self._terminal.end)

    def _end_redraw(self, end: int) -> None:
        """Restore the size, unless the output still ends at `end`: then the program may not have run yet."""
        impatient = self._loop.time() >= self._redrawn_at + REDRAW_PATIENCE_SECONDS
        if impatient or self._terminal.end != end:
            self.resize()
        else:
            self._loop.call_later(REDRAW_SECONDS, self._end_redraw, end)

    def resize(self) -> None:
        """Apply the terminal's size to the pseudo-terminal."""
        if self._pty is not None:
            self._terminal.apply_size(self._pty)

    def close(self) -> None:
        """Close every descriptor, and stop tracking the processes."""
        if self._answers_due is not None:
            self._answers_due.cancel()
        self._close_inside()
        for descriptor in list(self._readers):
            self._end_reading(descriptor)
        self._close_input()
        self.tree.close()
        self._reaper.forget(self._child)
        self._open.discard(self)

    def _from_program(self, data: bytes) -> None:
        if self._terminal.write_asking(data) and self._answers_due is None:
            self._answer()
        self.on_terminal_output(data)

    def _answer(self) -> None:
        """Answer the program's queries in the terminal's place."""
        self._answers_due = None
        if self._typeahead is None:
            return
        answers = self._terminal.answers()
        if answers is None:
            self._answers_due = self._loop.call_later(ANSWER_AGAIN_SECONDS, self._answer)
        elif answers:
            self._typeahead.add(answers)

    def _close_inside(self) -> None:
        if self._inside is not None:
            os.close(self._inside)
            self._inside = None

    def _fail(self, error: Exception) -> None:
        logger.error(
            "A program's output or input cannot be handled", exc_info=error, extra={"action": "process_failed"}
        )
        if not self.failed.done():
            self.failed.set_result(error)

    def _read_from(self, descriptor: int, sink: Callable[[bytes], None]) -> None:
        self._readers.add(descriptor)

        def readable() -> None:
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EIO:  # Linux: the last process has closed its end
                    self._fail(error)
                data = b""
            if not data:
                self._end_reading(descriptor)
                return
            self._last_output = self._loop.time()
            if not self.failed.done():  # else the output is read and dropped, so that the program can end
                try:
                    sink(data)
                except Exception as error:  # noqa: BLE001 — logged by _fail; whatever it is, the program has to be stopped
                    self._fail(error)
            if self._terminal.full and not self._draining:
                self._loop.remove_reader(descriptor)
                self._terminal.when_room(resume)

        def resume() -> None:
            if descriptor in self._readers:
                self._loop.add_reader(descriptor, readable)

        self._resumed.append(resume)
        resume()

    def _end_reading(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        self._readers.discard(descriptor)
        if descriptor == self._pty and self._typeahead is not None:
            self._typeahead.close()
            self._pty = self._typeahead = None
        os.close(descriptor)
        if not self._readers:
            self._drained.set()

    def _write_unwritten(self) -> None:
        if self._input is None:
            return
        try:
            while self._unwritten:
                written = os.write(self._input, self._unwritten)
                del self._unwritten[:written]
        except BlockingIOError:
            self._loop.add_writer(self._input, self._write_unwritten)
            return
        except OSError as error:
            if error.errno != errno.EPIPE:  # else the program has closed its input: what is left can reach nobody
                self._fail(error)
            self._close_input()
            return
        self._loop.remove_writer(self._input)
        if self._input_ends:
            self._close_input()

    def _close_input(self) -> None:
        if self._input is not None:
            self._loop.remove_writer(self._input)
            os.close(self._input)
            self._input = None
            self._unwritten.clear()
