"""One program in a session of its own: in a pseudo-terminal, or with its output on pipes for an adapter to read."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onsembl.agent.process_tree import MARK, RESERVED, ProcessTree
from onsembl.agent.terminal import AgentTerminal

READ_BYTES = 64 * 1024
_SECRET_VARIABLES = ("ONSEMBL_ENROLMENT_TOKEN",)


class Process:
    """A running program. `tree` has all that comes of it; `drain` waits for its last byte."""

    def __init__(self, child: subprocess.Popen[bytes], command_id: str, terminal: AgentTerminal) -> None:
        self._child = child
        self._terminal = terminal
        self._loop = asyncio.get_running_loop()
        self._readers: set[int] = set()
        self._drained = asyncio.Event()
        self._control: int | None = None
        self.tree = ProcessTree(child.pid, command_id)
        RESERVED.add(child.pid)
        self.exited = asyncio.create_task(asyncio.to_thread(child.wait))
        """Done when the program itself has ended: its exit status, or minus the signal that ended it."""

    @classmethod
    def in_terminal(
        cls, argv: Sequence[str], command_id: str, terminal: AgentTerminal, cwd: Path, extra: Mapping[str, str]
    ) -> Process:
        """Start `argv` in a pseudo-terminal whose bytes go to `terminal`. Raises OSError."""
        control, inside = pty.openpty()
        try:
            terminal.apply_size(inside)
            child = subprocess.Popen(
                argv,
                cwd=cwd,
                env=_environment(command_id, extra),
                preexec_fn=lambda: os.login_tty(inside),
                close_fds=True,
                pass_fds=(inside,),
            )
        except BaseException:
            os.close(control)
            raise
        finally:
            os.close(inside)
        os.set_blocking(control, False)
        process = cls(child, command_id, terminal)
        process._control = control
        process._read_from(control, terminal.write)
        return process

    @classmethod
    def on_pipes(
        cls,
        argv: Sequence[str],
        command_id: str,
        terminal: AgentTerminal,
        cwd: Path,
        extra: Mapping[str, str],
        text: str,
        on_output: Callable[[bytes], None],
    ) -> Process:
        """Start `argv` with `text` as its input and its output given to `on_output`; errors go to `terminal`.

        Raises OSError.
        """
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=_environment(command_id, extra),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        process = cls(child, command_id, terminal)
        process._feed(os.dup(child.stdin.fileno()), text.encode())
        child.stdin.close()
        for stream, sink in ((child.stdout, on_output), (child.stderr, process._write_lines)):
            descriptor = os.dup(stream.fileno())
            stream.close()
            os.set_blocking(descriptor, False)
            process._read_from(descriptor, sink)
        return process

    async def drain(self) -> None:
        """Wait for the last byte, which comes when no process holds the other end."""
        if self._readers:
            await self._drained.wait()

    def press(self, keys: bytes) -> None:
        """Write to the program as a keyboard would; on pipes there is none."""
        if self._control is not None:
            try:
                os.write(self._control, keys)
            except OSError:  # it is gone, or reads nothing: the ladder's next rung does not ask
                return

    def resize(self) -> None:
        """The terminal has another size."""
        if self._control is not None:
            self._terminal.apply_size(self._control)

    def close(self) -> None:
        """Let go of what is left; the processes are gone."""
        for descriptor in list(self._readers):
            self._end_reading(descriptor)
        RESERVED.discard(self._child.pid)

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
            sink(data)
            if self._terminal.outbox.full:
                self._loop.remove_reader(descriptor)
                self._terminal.when_there_is_room(resume)

        def resume() -> None:
            if descriptor in self._readers:
                self._loop.add_reader(descriptor, readable)

        resume()

    def _end_reading(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        self._readers.discard(descriptor)
        os.close(descriptor)
        if descriptor == self._control:
            self._control = None
        if not self._readers:
            self._drained.set()

    def _feed(self, descriptor: int, data: bytes) -> None:
        os.set_blocking(descriptor, False)
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
                self._loop.remove_writer(descriptor)
                os.close(descriptor)

        self._loop.add_writer(descriptor, writable)


def _environment(command_id: str, extra: Mapping[str, str]) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _SECRET_VARIABLES}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", MARK: command_id, **extra}
    environment.setdefault("LANG", "C.UTF-8")
    return environment
